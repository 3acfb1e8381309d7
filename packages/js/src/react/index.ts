"use client";

// `lg-streaming/react`: a live run in a React component.

export { useStreaming } from "./useStreaming.js";
export type { Streaming } from "./useStreaming.js";
export type { StreamingOptions } from "./options.js";
export type { NodeView, Problem, Prompt, RunStatus, View } from "./view.js";
