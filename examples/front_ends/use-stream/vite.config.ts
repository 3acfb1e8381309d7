import { defineConfig } from "vite";

export default defineConfig({
  server: { fs: { allow: [".."] } }, // for ../look.css
  build: { rolldownOptions: { input: ["index.html", "classic.html"] } },
});
