// Updates as lines of JSON, as a file sink of the server writes them.

// Returns the update without what the page has added to it.
export function lineOf(update) {
  const { at: _, ...sent } = update;
  return JSON.stringify(sent);
}

// Saves updates as a file that `lg-streaming replay` reads.
export function download(name, updates) {
  const lines = updates.map((update) => `${lineOf(update)}\n`);
  const address = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
