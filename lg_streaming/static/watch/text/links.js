// Links and images of texts from models: only those that are safe.

import { branch } from "./tree.js";

const TARGET = /^(?:https?:\/\/|mailto:)[^\s]+$/i;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[\w+/=]+$/;

// Returns a link; null if its target may not be opened.
export function link(target, children, text, title) {
  const host = hostOf(target);
  if (host === null) return null;
  const bare = text.replace(/^(?:https?:\/\/|mailto:)/i, "").replace(/\/$/, "");
  const isPlain = bare !== "" && target.replace(/^(?:https?:\/\/|mailto:)/i, "").startsWith(bare) && bare.startsWith(host);
  return branch("a", {
    href: target, rel: "noopener noreferrer nofollow", target: "_blank",
    ...(!isPlain && { "data-host": host }), ...(title && { title }),
  }, children);
}

// Returns an image that the text itself has; else a link to it. A request to this server would have the reader's login.
export function image(source, text, title) {
  if (PICTURE.test(source)) return branch("img", { src: source, alt: text, loading: "lazy", ...(title && { title }) }, []);
  return link(source, [text || "Image"], text, title);
}

// The host of a target, or the address of a mail; null if it may not be opened.
export function hostOf(target) {
  if (!TARGET.test(target)) return null;
  try {
    const { host, pathname } = new URL(target);
    return host || decodeURI(pathname);
  } catch {
    return null;
  }
}
