// node search.mjs SITE QUERY...: the addresses that the site's own search finds for each query, best first, as JSON.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";

const [site, ...queries] = process.argv.slice(2);
const folder = join(site, "assets/javascripts/workers");
const script = readFileSync(join(folder, readdirSync(folder).find((name) => /^search\..*\.js$/.test(name))), "utf8");

// The script is a web worker's: it gets messages, and posts one answer to each.
let receive, answered;
const self = {
  addEventListener: (_, listener) => (receive = listener),
  postMessage: (message) => answered(message.data),
  location: { href: "http://127.0.0.1/" },
  console,
  URL,
};
vm.runInNewContext(script, Object.assign(self, { self }));
const ask = (type, data) =>
  new Promise((resolve) => {
    answered = resolve;
    receive({ data: { type, data } });
  });

const index = JSON.parse(readFileSync(join(site, "search/search_index.json"), "utf8"));
await ask(0, { ...index, options: { suggest: false } });
const found = {};
for (const query of queries) {
  const { items } = await ask(2, query);
  found[query] = items.map((pages) => pages[0].location);
}
console.log(JSON.stringify(found));
