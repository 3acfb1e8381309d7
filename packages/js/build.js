// Builds the package into dist/. The client comes from the Python package, which serves it too; the React hook is
// compiled from src/.
// npm runs it before `npm pack` and `npm publish`. Without the compiler, it first installs the compiler.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const repository = join(here, "../..");
const compiler = join(here, "node_modules/typescript/bin/tsc");

function run(command, ...options) {
  execFileSync(command, options, { cwd: here, stdio: ["ignore", "inherit", "inherit"] });
}

if (!existsSync(compiler)) {
  run("npm", "install", "--prefix", here, "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error");
}
rmSync(join(here, "dist"), { recursive: true, force: true });
run(process.execPath, compiler);
for (const part of ["lg-streaming.js", "lg-streaming.d.ts", "lg-streaming"]) {
  cpSync(join(repository, "lg_streaming/static", part), join(here, "dist", part), { recursive: true });
}
copyFileSync(join(repository, "LICENSE"), join(here, "LICENSE"));
