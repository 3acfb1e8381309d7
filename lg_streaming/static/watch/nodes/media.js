// Content blocks of a message that are no text: images, files, and what a provider's own tools did.

import { make, readable } from "../dom.js";
import { image } from "../text/links.js";
import { patch } from "../text/tree.js";

const KINDS = { __proto__: null, audio: "Audio", video: "Video", file: "File", image: "Image", document: "Document", "text-plain": "Text" };

export function mediaElement(block) {
  if (block?.type === "image" || block?.type === "image_url") return imageElement(block);
  if (block?.type === "refusal" || typeof block?.refusal === "string") return make("p", "refusal", block.refusal ?? "The model refused.");
  const label = KINDS[block?.type] ?? String(block?.type ?? "Content");
  const element = make("details", "raw");
  element.append(make("summary", "", describe(label, block ?? {})), make("pre", "", readable(withoutBytes(block))));
  return element;
}

function imageElement(block) {
  const address = block.url ?? block.image_url?.url ?? block.image_url;
  const type = block.mime_type ?? block.source?.media_type ?? "image/png";
  const bytes = block.base64 ?? block.data ?? block.source?.data;
  const source = typeof address === "string" ? address : `data:${type};base64,${bytes}`;
  const element = make("p");
  const shown = image(source, block.alt ?? "Image of the model");
  patch(element, [], shown === null ? [`An image of the type ${type}`] : [shown]);
  return element;
}

function describe(label, { name, filename, extras, base64, mime_type: type }) {
  const size = typeof base64 === "string" ? `${Math.round((base64.length * 3) / 4 / 1024).toLocaleString("en")} KiB` : null;
  return [label, name ?? filename ?? extras?.filename, type, size].filter(Boolean).join(" · ");
}

function withoutBytes(block) {
  return typeof block?.base64 === "string" ? { ...block, base64: "…" } : block;
}
