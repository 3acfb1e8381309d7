import { Panel } from "../run/panel.js";
customElements.define("lg-timeline", class extends Panel { draw() {} });
