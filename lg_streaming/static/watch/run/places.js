// Places of updates: the key of a node, what is inside it, and the names around it.

export function keyOf(metadata) {
  return metadata.namespace || metadata.node_id || "";
}

export function messageIdOf(data, metadata) {
  return data?.message_id ?? metadata.message_id;
}

// Copied from lg-streaming.js, which this file does not import.
function nodePath(namespace) {
  const names = namespace.split(/[|/]/).filter((part) => !/^\d+$/.test(part)).map((part) => part.split(":", 1)[0]);
  return names.filter((name) => name !== "").join("/");
}

export function isBelow(key, namespace) {
  return key.startsWith(namespace) && /^[|/]/.test(key.slice(namespace.length));
}

// Returns the hidden enclosing nodes of a node, and its agent unless an enclosing label shows it.
export function pathOf({ namespace, node_id: id, agent_type: agent }, outer, call) {
  const names = namespace ? nodePath(namespace).split("/").slice(0, -1) : [];
  const around = outer ? names.slice(nodePath(outer.key).split("/").length) : names;
  return !agent || [...around, id, outer?.agent, outer?.name, outer?.id, call?.name].includes(agent) ? around : [...around, agent];
}

// All nodes in some rows, each before its inner nodes.
export function nodesIn(rows) {
  return rows.flatMap(({ nodes = [] }) => nodes.flatMap((node) => {
    const calls = node.parts.flatMap((part) => part.rows ?? []);
    return [node, ...nodesIn(calls), ...nodesIn(node.rows)];
  }));
}
