// What kind of field fits a JSON Schema.

const MESSAGES = "LangChain messages";
const DEEPEST = 3;

// Returns a schema without references, and without the null of an optional value.
export function resolve(schema, root, depth = 0) {
  if (typeof schema !== "object" || schema === null || depth > 8) return {};
  const { $ref: ref, ...own } = schema;
  if (typeof ref === "string") {
    const target = ref.replace(/^#\//, "").split("/").reduce((found, name) => found?.[name], root);
    return resolve({ ...target, ...own }, root, depth + 1);
  }
  const choices = schema.anyOf ?? schema.oneOf ?? (schema.allOf?.length === 1 ? schema.allOf : undefined);
  if (choices === undefined) return schema;
  const others = choices.filter((one) => one.type !== "null");
  const { anyOf: _, oneOf: __, allOf: ___, ...rest } = schema;
  return others.length === 1 ? { ...resolve(others[0], root, depth + 1), ...rest } : schema;
}

export function kindOf(schema, root, depth = 0) {
  const { type, properties, items } = schema;
  if (Array.isArray(schema.enum)) return "choice";
  if ("const" in schema) return "choice";
  if (type === "array" && typeof schema.description === "string" && schema.description.startsWith(MESSAGES)) return "messages";
  if (type === "boolean") return "flag";
  if (type === "integer" || type === "number") return "number";
  if (type === "string") return "text";
  if (type === "array" && resolve(items, root).type === "string" && !resolve(items, root).enum) return "lines";
  if (type === "object" && Object.keys(properties ?? {}).length > 0 && depth < DEEPEST) return "object";
  return "json";
}

export const isRequired = (schema, name) => (schema.required ?? []).includes(name);
