// Imports the package in Node, where there is no window, and prints what a server that renders React sends.
import { createElement, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import * as client from "lg-streaming";
import { useStreaming } from "lg-streaming/react";
import manifest from "lg-streaming/package.json" with { type: "json" };

function Status({ id }) {
  const { state, status, text } = useStreaming(id, { resume: true });
  return createElement("p", { "data-state": state }, status, text);
}

const rendered = ["acme/run-1", null].map((id) => renderToString(createElement(StrictMode, null, createElement(Status, { id }))));
console.log(JSON.stringify({ names: Object.keys(client).sort(), version: manifest.version, rendered }));
