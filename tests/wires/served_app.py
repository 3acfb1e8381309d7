"""An app with every wire for `python -m lg_streaming serve`. One route opens a run, another counts the streams."""

from fastapi import FastAPI, Request

from tests.wires.all_wires import install


def make() -> FastAPI:
    app = FastAPI()
    module = install(app, gateway={"heartbeat_interval": 0.2})

    @app.post("/open/{execution_id}")
    async def open_run(request: Request, execution_id: str) -> None:  # pyright: ignore[reportUnusedFunction]
        await request.body()
        module.hub.open(execution_id, owner="alice")
        module.hub.publish(execution_id, "token", {"content": "hello"})

    @app.get("/open")
    async def streams() -> int:  # pyright: ignore[reportUnusedFunction]
        return module.gateway.connections

    return app
