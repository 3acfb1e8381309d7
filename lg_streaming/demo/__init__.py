"""A research assistant to watch: a real LangGraph graph, an offline model, a server, and a page in the browser."""
