// Fields of the form, made from a JSON Schema. Each has `element`, `value()`, which is undefined for an empty field, and
// `find(path)`, which returns the field of a path. `value()` throws a `FieldError` for a value that does not fit.

import { make, showText } from "../dom.js";
import { isRequired, kindOf, resolve } from "./schema.js";

const SHORT = 80; // longest text of a field with one line
let number = 0;

export class FieldError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

export function makeField(name, given, { root: around = given, required = false, depth = 0, path = name } = {}) {
  const root = given.$defs === undefined ? around : given; // a part may have own definitions
  const schema = resolve(given, root);
  const kind = kindOf(schema, root, depth);
  const about = { name, path, schema, root, required, depth };
  return kind === "object" ? new ObjectField(about) : new ValueField(about, KINDS[kind](schema));
}

// A field with one control.
class ValueField {
  element = make("div", "start-field");
  path;
  #control;
  #read;
  #required;
  #error = make("p", "field-error");
  isTouched = false;
  #isEmpty = true; // neither a person nor the schema has given a value

  constructor({ name, path, schema, required }, { control, read, note = "", value = schema.default, description = schema.description }) {
    Object.assign(this, { path });
    this.#control = control;
    this.#read = read;
    this.#required = required;
    number += 1;
    control.id = `start-${number}`;
    control.dataset.path = path;
    this.#error.id = `${control.id}-error`;
    const hint = make("p", "field-hint", [description, note].filter(Boolean).join(" "));
    hint.id = `${control.id}-hint`;
    hint.hidden = hint.textContent === "";
    hint.dir = "auto";
    this.#error.hidden = true;
    const label = make("label", "field-name", schema.title && schema.title !== "" ? schema.title : name);
    label.htmlFor = control.id;
    if (required) {
      control.required = true;
      label.append(make("span", "required", " (required)"));
    }
    control.setAttribute("aria-describedby", `${hint.id} ${this.#error.id}`);
    if (value !== undefined && value !== null) write(control, value);
    this.#isEmpty = !required && value === undefined;
    control.addEventListener("input", () => {
      this.isTouched = true;
      this.#isEmpty = false;
      this.explain("");
    });
    if (control.type === "checkbox") {
      const line = make("div", "check");
      line.append(control, label);
      this.element.append(line, hint, this.#error);
    } else this.element.append(label, hint, control, this.#error);
  }

  value() {
    this.explain("");
    if (this.#isEmpty) return undefined; // an untouched box is no answer
    if (this.#control.type !== "checkbox" && this.#control.value.trim() === "") {
      if (this.#required) throw new FieldError(this, "This field is required.");
      return undefined;
    }
    try {
      return this.#read(this.#control);
    } catch (error) {
      throw new FieldError(this, error.message);
    }
  }

  explain(message) {
    showText(this.#error, message);
    if (message) this.#control.setAttribute("aria-invalid", "true");
    else this.#control.removeAttribute("aria-invalid");
  }

  focus() {
    this.#control.focus();
  }

  find() {
    return this;
  }
}

// A group of fields.
export class ObjectField {
  element = make("fieldset", "start-object");
  path;
  #fields;
  #required;

  constructor({ name, path, schema, root, required, depth }) {
    this.path = path;
    this.#required = required;
    this.element.append(make("legend", "", depth === 0 ? schema.title : name));
    if (schema.description) this.element.append(make("p", "field-hint", schema.description));
    this.#fields = Object.entries(schema.properties).map(([part, inner]) => [
      part,
      makeField(part, inner, { root, required: isRequired(schema, part), depth: depth + 1, path: `${path}.${part}` }),
    ]);
    this.element.append(...this.#fields.map(([, field]) => field.element));
  }

  get isTouched() {
    return this.#fields.some(([, field]) => field.isTouched);
  }

  // An untouched optional group is left out, with its defaults and its required fields.
  value() {
    if (!this.#required && !this.isTouched) return undefined;
    const values = this.#fields.map(([name, field]) => [name, field.value()]).filter(([, value]) => value !== undefined);
    return Object.fromEntries(values);
  }

  focus() {
    this.#fields[0]?.[1].focus();
  }

  explain(message) {
    this.#fields[0]?.[1].explain(message);
  }

  // Returns the innermost field of a path such as "input.options.depth".
  find(path) {
    const inner = this.#fields.find(([, field]) => path === field.path || path.startsWith(`${field.path}.`));
    return inner === undefined ? this : inner[1].find(path);
  }
}

const KINDS = {
  text(schema) {
    const types = { date: "date", "date-time": "text", email: "email", uri: "url" };
    const isShort = schema.format !== undefined || schema.pattern !== undefined || schema.maxLength <= SHORT;
    const control = isShort ? input(types[schema.format] ?? "text") : area(2);
    if (schema.maxLength !== undefined) control.maxLength = schema.maxLength;
    if (schema.format === "date-time") control.placeholder = "2026-11-29T20:00:00Z";
    return { control, read: ({ value }) => value };
  },
  messages: () => ({
    control: area(3),
    read: ({ value }) => [{ role: "user", content: value }],
    description: "", // that of the schema is about their form
    note: "The text of a message from a user.",
  }),
  number(schema) {
    const control = input("number");
    const isWhole = schema.type === "integer";
    control.step = isWhole ? "1" : "any";
    const [least, most] = [schema.minimum, schema.maximum];
    if (least !== undefined) control.min = least;
    if (most !== undefined) control.max = most;
    return {
      control,
      read: ({ value }) => {
        const found = Number(value);
        if (!Number.isFinite(found)) throw new Error("This is no number.");
        if (isWhole && !Number.isInteger(found)) throw new Error("This is no whole number.");
        if (found < least || found > most) throw new Error(`The number is from ${least ?? "any"} to ${most ?? "any"}.`);
        return found;
      },
    };
  },
  flag: () => ({ control: input("checkbox"), read: ({ checked }) => checked }),
  choice(schema) {
    const values = schema.enum ?? [schema.const];
    const control = make("select");
    control.append(option("", "–"), ...values.map((value, at) => option(String(at), String(value))));
    const at = values.indexOf(schema.default);
    return { control, read: ({ value }) => values[Number(value)], value: at < 0 ? undefined : String(at) };
  },
  lines: (schema) => ({
    control: area(3),
    read: ({ value }) => value.split("\n").map((line) => line.trim()).filter(Boolean),
    note: "One on each line.",
    value: Array.isArray(schema.default) ? schema.default.join("\n") : undefined,
  }),
  json(schema) {
    const control = area(4);
    control.classList.add("json");
    control.spellcheck = false;
    return {
      control,
      read: ({ value }) => {
        try {
          return JSON.parse(value);
        } catch (error) {
          throw new Error(`This is no JSON: ${error.message}`);
        }
      },
      note: "As JSON.",
      value: schema.default === undefined || schema.default === null ? undefined : JSON.stringify(schema.default, null, 2),
    };
  },
};

function write(control, value) {
  if (control.type === "checkbox") control.checked = value === true;
  else control.value = value;
}

function input(type) {
  return Object.assign(make("input"), { type, autocomplete: "off", dir: type === "number" ? "ltr" : "auto" });
}

function area(rows) {
  return Object.assign(make("textarea"), { rows, dir: "auto" });
}

function option(value, text) {
  return Object.assign(make("option", "", text), { value });
}
