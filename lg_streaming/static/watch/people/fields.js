// Fields for values of a JSON Schema. Each is {element, read}: `read()` returns the value, or throws what is wrong.

import { make, plain, readable } from "../dom.js";

const NUMBERS = ["integer", "number"];

// The field of an answer to a question. Without a schema the answer is a text.
export function answerField(schema, id) {
  return fieldOf(schema ?? { type: "string" }, { root: schema ?? {}, id: `${id}-answer`, label: "Answer", isRequired: true });
}

// A field for each argument of a tool call.
export function argumentFields(args, schema, id) {
  const properties = schema?.properties ?? Object.fromEntries(Object.entries(args).map(([name, value]) => [name, schemaOf(value)]));
  const required = schema?.required ?? Object.keys(args);
  return objectField({ properties, required }, { root: schema ?? {}, id, label: "Arguments", value: args });
}

function fieldOf(given, options) {
  const schema = resolved(given, options.root);
  const { type } = schema;
  if (Array.isArray(schema.enum)) return choiceField(schema.enum, options);
  if (type === "array" && Array.isArray(resolved(schema.items ?? {}, options.root).enum)) return severalField(resolved(schema.items, options.root).enum, options);
  if (type === "object" && schema.properties) return objectField(schema, options);
  if (type === "boolean") return checkField(options);
  if (NUMBERS.includes(type)) return numberField(schema, options);
  return type === "string" ? textField(options) : jsonField(options);
}

// A schema behind a `$ref`, or with null as its only alternative.
function resolved(schema, root) {
  const name = /^#\/\$defs\/(.+)$/.exec(schema.$ref ?? "")?.[1];
  if (name !== undefined && root.$defs?.[name]) return { ...root.$defs[name], isOptional: schema.isOptional };
  const others = schema.anyOf?.filter(({ type }) => type !== "null") ?? [];
  if (others.length !== 1) return schema;
  const { anyOf, ...about } = schema;
  return resolved({ ...about, ...others[0], isOptional: others.length < anyOf.length }, root);
}

function schemaOf(value) {
  if (typeof value === "boolean") return { type: "boolean" };
  if (typeof value === "number") return { type: "number" };
  return typeof value === "string" ? { type: "string" } : {};
}

function labelled(input, { id, label }, hint = "") {
  const element = make("div", "field");
  const name = make("label", "", hint ? `${label}, ${hint}` : label);
  input.id = name.htmlFor = id;
  element.append(name, input);
  return element;
}

function textField(options) {
  const input = make("textarea");
  input.rows = 2;
  input.dir = "auto";
  input.value = options.value ?? "";
  return { element: labelled(input, options), read: () => input.value };
}

function jsonField(options) {
  const input = make("textarea");
  input.rows = 3;
  input.value = options.value === undefined ? "" : readable(options.value);
  const read = () => {
    try {
      return JSON.parse(input.value);
    } catch (error) {
      throw new Error(`${options.label} is not JSON: ${error.message}`, { cause: error });
    }
  };
  return { element: labelled(input, options, "as JSON"), read };
}

function numberField({ type, minimum, maximum }, options) {
  const input = make("input");
  input.type = "number";
  input.step = type === "integer" ? "1" : "any";
  if (minimum !== undefined) input.min = minimum;
  if (maximum !== undefined) input.max = maximum;
  input.value = options.value ?? "";
  const read = () => {
    if (input.validationMessage !== "") throw new Error(`${options.label}: ${input.validationMessage}`);
    if (input.value === "" && options.isRequired) throw new Error(`${options.label} is a number`);
    return input.value === "" ? null : input.valueAsNumber;
  };
  return { element: labelled(input, options), read };
}

function checkField(options) {
  const input = make("input");
  input.type = "checkbox";
  input.checked = options.value === true;
  const element = labelled(input, options);
  element.classList.add("check");
  element.prepend(input);
  return { element, read: () => input.checked };
}

function choiceField(choices, options) {
  const { element, inputs } = group("radio", choices, options, (choice) => JSON.stringify(choice) === JSON.stringify(options.value));
  const read = () => {
    const at = inputs.findIndex(({ checked }) => checked);
    if (at < 0 && options.isRequired) throw new Error("Choose one of the answers");
    return at < 0 ? null : choices[at];
  };
  return { element, read };
}

function severalField(choices, options) {
  const { element, inputs } = group("checkbox", choices, options, (choice) => options.value?.includes(choice) ?? false);
  return { element, read: () => choices.filter((_, index) => inputs[index].checked) };
}

function group(type, choices, { id, label }, isChosen) {
  const element = make("fieldset", "choices");
  element.append(make("legend", "", label));
  const inputs = choices.map((choice, index) => {
    const input = make("input");
    Object.assign(input, { type, name: id, id: `${id}-${index}`, checked: isChosen(choice) });
    const name = make("label");
    name.htmlFor = input.id;
    name.dir = "auto";
    name.append(input, plain(readable(choice)));
    element.append(name);
    return input;
  });
  return { element, inputs };
}

function objectField({ properties, required = [] }, { root, id, label, value = {} }) {
  const element = make("fieldset", "object");
  element.append(make("legend", "", label));
  const fields = Object.entries(properties).map(([name, schema], index) => {
    const isRequired = required.includes(name);
    const title = `${schema.title ?? name}${isRequired ? "" : " (optional)"}`;
    const field = fieldOf(schema, { root, id: `${id}-${index}`, label: title, isRequired, value: value?.[name] ?? schema.default });
    if (schema.description) field.element.append(make("p", "hint", schema.description));
    return { name, isRequired, ...field };
  });
  element.append(...fields.map((field) => field.element));
  const read = () => Object.fromEntries(fields.flatMap(({ name, isRequired, element: at, read: one }) => {
    const text = at.querySelector("textarea, input[type=number]");
    return !isRequired && text !== null && text.value === "" ? [] : [[name, one()]];
  }));
  return { element, read };
}
