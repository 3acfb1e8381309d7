// Leaves the browser module to the server.
export default { build: { outDir: "dist-external", rollupOptions: { external: ["lg-streaming"] } } };
