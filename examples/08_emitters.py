"""Say what a program does, without a graph: an emitter as a block, tool calls side by side, a question to people."""

import asyncio
from typing import Any

from lg_streaming import Emitter, StreamHub, StreamUpdate

hub = StreamHub()


async def ask_for_price(offers: Emitter, shop: str, price: float, seconds: float) -> None:
    call = offers.tool_start(shop, {"pencils": 40})  # what is said of this call does not mix with the others
    await asyncio.sleep(seconds)  # the work
    if price > 10:
        call.tool_error("sold out")
    else:
        call.tool_complete({"price": price})


async def order() -> None:
    async with hub.emitter("order-7") as emitter:  # begins the run, and ends it as the block ends
        offers = emitter.node_start("offers")
        shops = [("paper-shop", 8.2, 0.3), ("art-shop", 11.0, 0.2), ("corner-shop", 9.5, 0.1)]
        await asyncio.gather(*(ask_for_price(offers, *shop) for shop in shops))
        offers.node_complete({"best": "paper-shop"})

        emitter.start("a-model")
        for piece in ["The ", "paper ", "shop ", "is ", "cheapest."]:
            emitter.token(piece)
            await asyncio.sleep(0.1)
        emitter.usage(input_tokens=120, output_tokens=6, cost=0.0002)
        emitter.end(finish_reason="stop")

        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        hub.on_response("order-7", lambda _prompt_id, response: answered.set_result(response))
        emitter.human_prompt("Order 40 pencils for 8.20?", type="approval", choices=["yes", "no"])
        emitter.status("ordered" if await answered == "yes" else "left alone")


def show(update: StreamUpdate) -> None:
    if update.type == "token":
        print(update.data["content"], end="", flush=True)
        return
    told = {name: value for name, value in update.data.items() if not name.endswith("_id")}
    print("\n" if update.type == "usage" else "", f"{update.type:17} {told or ''}", sep="")


async def main() -> None:
    program = asyncio.create_task(order())
    async for update in hub.subscribe("order-7"):
        show(update)
        if update.type == "human_prompt":  # somebody who watches; over the network it is the message `respond`
            await hub.respond("order-7", update.data["prompt_id"], "yes")
    await program
    await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main())
