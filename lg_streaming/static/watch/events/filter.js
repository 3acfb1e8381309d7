// Filter of updates, which reads them in parts, so that no frame takes long. No DOM.

export class Filter {
  matches = []; // indices of the updates that pass, in order
  types = new Set();
  nodes = new Set();
  agents = new Set();
  #conditions = { type: "", node: "", agent: "", text: "" };
  #next = 0; // index of the first update that was not looked at
  #first = null; // the update with the index 0, to detect that the store has dropped some

  set(conditions) {
    this.#conditions = { ...conditions, text: conditions.text.toLowerCase() };
    this.matches = [];
    this.#next = 0;
  }

  // Looks at the shown updates for up to `budget` milliseconds. Returns whether it has seen all.
  read({ updates, shown }, budget) {
    if (this.#first !== updates[0]) {
      this.#first = updates[0];
      this.matches = [];
      this.#next = 0;
    }
    if (shown < this.#next) {
      while (this.matches.length > 0 && this.matches.at(-1) >= shown) this.matches.pop();
      this.#next = shown;
    }
    const until = performance.now() + budget;
    while (this.#next < shown) {
      const update = updates[this.#next];
      this.#note(update);
      if (this.#passes(update)) this.matches.push(this.#next);
      this.#next += 1;
      if (this.#next % 32 === 0 && performance.now() > until) return this.#next >= shown;
    }
    return true;
  }

  #note({ type, metadata }) {
    this.types.add(type);
    if (metadata.node_id !== undefined) this.nodes.add(metadata.node_id);
    if (metadata.agent_type !== undefined) this.agents.add(metadata.agent_type);
  }

  #passes(update) {
    const { type, node, agent, text } = this.#conditions;
    return (type === "" || update.type === type)
      && (node === "" || update.metadata.node_id === node)
      && (agent === "" || update.metadata.agent_type === agent)
      && (text === "" || JSON.stringify(update).toLowerCase().includes(text));
  }
}
