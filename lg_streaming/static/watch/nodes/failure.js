// A failure: its type and message, its causes, and in debug mode its stack.

import { make } from "../dom.js";
import { wordClass } from "../text/words.js";

export function failureElement({ type, message, code, causes, errors, stack }, label = "") {
  const element = make("div", "error failure");
  const text = [label, [type, message].filter(Boolean).join(": ")].filter(Boolean).join(": ");
  const head = make("p", wordClass(text), text);
  head.dir = "auto";
  element.append(head);
  if (code !== undefined && code !== null) head.append(make("span", "error-code", ` (${code})`));
  for (const one of causes ?? []) element.append(make("p", "cause", `caused by ${[one.type, one.message].filter(Boolean).join(": ")}`));
  for (const one of errors?.length > 1 ? errors : []) element.append(make("p", "cause", [one.type, one.message].filter(Boolean).join(": ")));
  if (stack) {
    const details = make("details");
    const text = Array.isArray(stack) ? stack.join("") : String(stack);
    details.append(make("summary", "", "Stack"), make("pre", "", text));
    element.append(details);
  }
  return element;
}
