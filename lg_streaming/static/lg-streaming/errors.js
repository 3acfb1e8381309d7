// Errors that the server reports or that the client detects.

const UNAUTHORIZED = [4010, 4011];
export const GAP = 4091;
export const LOG_UNAVAILABLE = 5030;
const SERVER_RESTART = 4500;

export class StreamingError extends Error {
  name = "StreamingError";

  constructor(body, { status, cause } = {}) {
    super(body.message, cause === undefined ? undefined : { cause });
    this.code = body.code ?? null;
    this.codeName = body.name;
    this.retryable = body.retryable;
    if (body.retry_after_ms !== undefined) this.retryAfter = body.retry_after_ms;
    if (body.execution_id !== undefined) this.executionId = body.execution_id;
    if (status !== undefined) this.status = status;
  }

  get isUnauthorized() {
    return UNAUTHORIZED.includes(this.code);
  }
}

export const trouble = (name, message, details) => new StreamingError({ name, message, retryable: true }, details);
export const unreachable = (cause) => trouble("unreachable", "the server cannot be reached", { cause });
export const lost = () => trouble("lost", "the connection is lost");
export const silent = () => trouble("silent", "the server has gone silent");
export const blocked = (way) => trouble("blocked", `nothing comes through ${way}`);
export const malformed = (cause) => trouble("malformed", "what the server sent cannot be understood", { cause });

export function asError(error) {
  return error instanceof StreamingError ? error : unreachable(error);
}

export async function errorOf(response) {
  const error = (await response.json().catch(() => null))?.error;
  const retryable = response.status >= 500 || response.status === 429 || response.status === 408;
  const fallback = { name: "http", message: `the server answered ${response.status}`, retryable };
  return new StreamingError(error?.message ? error : fallback, { status: response.status });
}

// Returns the error of a response that is no success.
export function refused(answer) {
  return typeof answer?.error?.message === "string" ? new StreamingError(answer.error) : malformed();
}

// The error of a request whose connection is lost.
export function unanswered({ code, codeName: name, message, retryable }) {
  return { ok: false, error: { code, name, message, retryable } };
}

// An error of a page's callback must not break the stream; it is reported like any uncaught error.
export function call(callback, ...values) {
  try {
    callback?.(...values);
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}

// A permanent error.
export function refusal(name, message, { code, status } = {}) {
  return new StreamingError({ code, name, message, retryable: false }, { status });
}

// The error for a transport that the server or the browser lacks.
export function isAbsent({ code, status }) {
  return code === null && [404, 405, 426, 501].includes(status);
}

// Returns whether the server is unreachable at present.
export function isAway({ code, codeName }) {
  return code === SERVER_RESTART || codeName === "unreachable";
}

export function noTransport(name) {
  return refusal("unavailable", `there is no ${name} here`, { status: 404 });
}
