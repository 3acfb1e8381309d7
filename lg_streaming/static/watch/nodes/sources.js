// Sources that a message cites, and artifacts that a node made, as lists with safe links.

import { make, plain, readable } from "../dom.js";
import { link } from "../text/links.js";
import { patch } from "../text/tree.js";

const EXCERPT = 200; // characters

// Returns the elements of both lists.
export function sourceList(sources, artifacts) {
  const cited = unique(sources.map(sourceFrom));
  const made = artifacts.map((one) => (typeof one === "object" ? sourceFrom(one) : { title: readable(one), address: "", text: "" }));
  return [...listOf("Sources", cited), ...listOf("Artifacts", made)];
}

function listOf(label, entries) {
  if (entries.length === 0) return [];
  const list = make("ol");
  list.append(...entries.map(entryElement));
  return [make("p", "tool-label", label), list];
}

function entryElement({ title, address, text }) {
  const entry = make("li");
  entry.dir = "auto";
  const linked = address === "" ? null : link(address, [title], title);
  patch(entry, [], linked === null ? [title] : [linked]);
  if (text !== "" && text !== title) entry.append(make("p", "excerpt", text.length > EXCERPT ? `${text.slice(0, EXCERPT)} …` : text));
  return entry;
}

// Reads a citation, a document of LangChain, or an object like them.
function sourceFrom(one) {
  if (typeof one === "string") return { title: plain(one), address: plain(one), text: "" };
  const about = { ...one?.metadata, ...one };
  const address = firstText(about.url, about.uri, about.source, about.link, about.href);
  const text = firstText(about.cited_text, about.page_content, about.snippet, about.text, about.content);
  const title = firstText(about.title, about.document_title, about.name, about.filename, address, text, about.id, "Untitled");
  return { title: title.length > EXCERPT ? `${title.slice(0, EXCERPT)} …` : title, address, text };
}

function firstText(...values) {
  return plain(values.find((value) => typeof value === "string" && value !== ""));
}

function unique(entries) {
  return [...new Map(entries.map((entry) => [`${entry.title} ${entry.address}`, entry])).values()];
}
