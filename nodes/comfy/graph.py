"""Reading the running graph, to note in a file what made it."""

from typing import Any


def upstream_value(prompt: dict | None, node_id: str, input_name: str, widget: str, depth: int = 32) -> Any:
    """The nearest value of an input named ``widget`` on the nodes that feed an input; None if there is none.

    ``prompt`` is the graph in API format. Follows links breadth first, at most ``depth`` nodes deep.
    """
    prompt = prompt or {}
    start = prompt.get(str(node_id), {}).get("inputs", {}).get(input_name)
    level, seen = [start], set()
    for _ in range(depth):
        following = []
        for link in level:
            if not isinstance(link, list) or len(link) != 2 or link[0] in seen:
                continue
            seen.add(link[0])
            inputs = prompt.get(str(link[0]), {}).get("inputs", {})
            value = inputs.get(widget)
            if value is not None and not isinstance(value, list):
                return value
            following += inputs.values()
        level = following
    return None
