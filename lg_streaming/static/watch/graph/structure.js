// Graph of a run: the nodes and edges that the server declares, and those that only the updates show. It counts how often
// the run took each edge. No DOM.
//
// A node has its path as its id, such as `team/look`.

const START = "__start__";
const END = "__end__";

export class RunGraph {
  nodes = new Map(); // path -> {id, name, kind, parent, isSeen, isExtra}
  edges = new Map(); // edgeKey -> {key, source, target, conditional, label, count, isSeen, isExtra}; extra: the declared graph lacks it
  #into = new Map(); // path -> the edges that lead there
  #levels = new Map(); // key of the enclosing node -> {owner, path, step, last}
  #next = 0; // index of the next span to read

  // `declared` is the server's description, or null if the server does not know the graph.
  constructor(declared = null) {
    this.isDeclared = declared !== null;
    this.isFunctional = declared?.functional === true;
    const byId = new Map((declared?.nodes ?? []).map((node) => [node.id, node]));
    const pathOf = ({ parent, name }) => join(byId.has(parent) ? pathOf(byId.get(parent)) : null, name);
    for (const node of byId.values()) this.#addNode(byId.has(node.parent) ? pathOf(byId.get(node.parent)) : null, node.name, node.kind, false);
    for (const edge of declared?.edges ?? []) {
      const [source, target] = [byId.get(edge.source), byId.get(edge.target)];
      if (source && target) this.#addEdge({ ...edge, source: pathOf(source), target: pathOf(target) }, false);
    }
  }

  // Reads the spans of nodes that began since the last call. Returns whether nodes or edges were added.
  read(spans) {
    const size = this.nodes.size + this.edges.size;
    for (; this.#next < spans.nodes.length; this.#next += 1) this.#begin(spans.nodes[this.#next]);
    for (const level of this.#levels.values()) if (!level.isOver && level.owner.endedAt !== null) this.#finish(level);
    return this.nodes.size + this.edges.size > size;
  }

  // Returns the nodes and edges that are drawn while some subgraphs are collapsed. An edge of a hidden node is dropped.
  visible(collapsed) {
    const isHidden = ({ parent }) => parent !== null && (collapsed.has(parent) || isHidden(this.nodes.get(parent)));
    const nodes = [...this.nodes.values()].filter((node) => !isHidden(node));
    const ids = new Set(nodes.map(({ id }) => id));
    return { nodes, edges: [...this.edges.values()].filter(({ source, target }) => ids.has(source) && ids.has(target)) };
  }

  // Paths of the nodes that have nodes inside.
  get boxes() {
    return new Set([...this.nodes.values()].map(({ parent }) => parent).filter((parent) => parent !== null));
  }

  edgesInto(id) {
    return this.#into.get(id) ?? [];
  }

  #begin(span) {
    this.#addNames(span.names);
    const level = this.#levelOf(span);
    level.step = Math.max(level.step, span.step);
    this.#follow(span.path, level, span.step);
    const [last = 0] = level.last.get(span.path) ?? [];
    if (last !== span.step) level.last.set(span.path, [span.step, last]);
  }

  #levelOf(span) {
    let level = this.#levels.get(span.level);
    if (!level) {
      let owner = span.parent;
      while (owner.kind !== "node" && owner.kind !== "run") owner = owner.parent;
      level = { owner, path: owner.path ?? null, step: 0, last: new Map(), isOver: false };
      this.#levels.set(span.level, level);
    }
    return level;
  }

  // Counts the edges that led to a node. Where no declared edge explains it, the nodes of the step before did.
  #follow(path, level, step) {
    const before = (id) => (level.last.get(id) ?? []).find((one) => one < step) ?? 0;
    const edges = this.#declaredInto(path, level, before, step);
    for (const edge of edges) edge.count += 1;
    if (edges.length > 0 || step === 1) return;
    for (const source of level.last.keys()) {
      if (before(source) === step - 1) this.#addEdge({ source, target: path, count: 1 }, true);
    }
  }

  // The edges of the latest step that has a node before this one. A router's edge is certain only if no other leads here.
  #declaredInto(path, level, before, step) {
    const into = this.edgesInto(path).filter(({ isSeen }) => !isSeen);
    const latest = into.reduce((most, { source }) => Math.max(most, before(source)), 0);
    const isFrom = ({ source, isSeen }) => !isSeen && (latest > 0 ? before(source) === latest : source === join(level.path, START));
    // Between the two steps there may be only others that begin late, as LangGraph bounds the nodes at a time.
    const between = [...level.last.keys()].filter((id) => before(id) === step - 1);
    if (latest < step - 1 && !between.every((id) => this.edgesInto(id).some(isFrom))) return [];
    const candidates = into.filter(isFrom);
    const certain = candidates.filter(({ conditional }) => !conditional);
    return certain.length > 0 ? certain : candidates;
  }

  #finish(level) {
    level.isOver = true;
    const end = join(level.path, END);
    if (level.owner.state === "complete" && this.nodes.has(end)) this.#follow(end, level, level.step + 1);
  }

  #addNames(names) {
    let parent = null;
    for (const name of names) {
      const id = join(parent, name);
      if (!this.nodes.has(id)) this.#addNode(parent, name, "node", true);
      parent = id;
    }
  }

  #addNode(parent, name, kind, isSeen) {
    const id = join(parent, name);
    this.nodes.set(id, { id, name, kind, parent, isSeen, isExtra: isSeen && this.isDeclared });
  }

  #addEdge({ source, target, conditional = false, label = null, count = 0 }, isSeen) {
    const isInside = source !== target;
    [source, target] = this.#siblings(source, target);
    if (isInside && source === target) return; // from a box to a node in it
    const key = `${source}\n${target}`;
    const known = this.edges.get(key);
    if (known) {
      if (label && known.label !== label) known.label = known.label ? `${known.label}, ${label}` : label;
      known.conditional &&= conditional;
      known.count += count;
      return;
    }
    const edge = { key, source, target, conditional, label, count, isSeen, isExtra: isSeen && this.isDeclared };
    this.edges.set(key, edge);
    if (!this.#into.has(target)) this.#into.set(target, []);
    this.#into.get(target).push(edge);
  }

  // An edge between nodes of different boxes connects the boxes.
  #siblings(source, target) {
    const chain = (id) => (id === null ? [null] : [...chain(this.nodes.get(id).parent), id]);
    const [from, to] = [chain(source), chain(target)];
    let at = 1;
    while (from[at] === to[at] && at < Math.min(from.length, to.length) - 1) at += 1;
    return [from[at], to[at]];
  }
}

function join(parent, name) {
  return parent === null ? name : `${parent}/${name}`;
}
