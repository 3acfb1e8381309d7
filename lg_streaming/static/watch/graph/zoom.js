// Zoom and pan of a drawing in a region that scrolls: buttons, keys, the wheel with ctrl, two fingers, and dragging.

const STEP = 1.25;
const LEAST = 0.02;
const MOST = 2.5;
const READABLE = 0.75; // least scale at first
const PADDING = 20; // pixels around the drawing, also for a scroll bar
const DRAG = 4; // pixels from which a press is a drag
const WHEEL = 0.0025; // of a pixel

export class Zoom {
  scale = 1;
  isFree = false; // whether a person has chosen the view
  #region;
  #canvas;
  #space;
  #size = { width: 0, height: 0 };
  #fingers = new Map();
  #drag = null;

  // `space` has the scaled size of the canvas, so that the region can scroll over it.
  constructor(region, space, canvas) {
    this.#region = region;
    this.#space = space;
    this.#canvas = canvas;
    region.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    region.addEventListener("keydown", (event) => this.#onKey(event));
    region.addEventListener("pointerdown", (event) => this.#onDown(event));
    region.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) region.addEventListener(type, (event) => this.#onUp(event));
    region.addEventListener("click", (event) => this.#onClick(event), { capture: true });
  }

  // Takes the size of a drawing, and that of the region; keeps the view that a person has chosen.
  resize(size) {
    this.#size = size;
    const scale = Math.min(1, Math.max(READABLE, (this.#region.clientWidth - 2 * PADDING) / Math.max(1, size.width)));
    this.#region.style.height = `${Math.ceil(size.height * scale) + 2 * PADDING}px`;
    if (this.isFree) this.#apply();
    else this.#set(Math.max(READABLE, this.#whole));
  }

  // Shows the whole drawing.
  fit() {
    this.isFree = true;
    this.#set(this.#whole);
  }

  get #whole() {
    const { clientWidth: width, clientHeight: height } = this.#region;
    return Math.min(1, (width - 2 * PADDING) / Math.max(1, this.#size.width), (height - 2 * PADDING) / Math.max(1, this.#size.height));
  }

  #set(scale) {
    this.scale = Math.max(LEAST, scale);
    this.#apply();
  }

  // Shows an element in the middle, while no person has chosen a view.
  follow(element) {
    if (this.isFree || !element) return;
    const { offsetLeft: x, offsetTop: y, offsetWidth: width, offsetHeight: height } = element;
    this.#region.scrollLeft = (x + width / 2) * this.scale + PADDING - this.#region.clientWidth / 2;
    this.#region.scrollTop = (y + height / 2) * this.scale + PADDING - this.#region.clientHeight / 2;
  }

  // Zooms about a point of the region; without one about its middle.
  by(factor, x = this.#region.clientWidth / 2, y = this.#region.clientHeight / 2) {
    this.isFree = true;
    const region = this.#region;
    const before = this.scale;
    this.scale = Math.min(MOST, Math.max(LEAST, before * factor));
    const [left, top] = [region.scrollLeft + x - PADDING, region.scrollTop + y - PADDING];
    this.#apply();
    region.scrollLeft = (left * this.scale) / before - x + PADDING;
    region.scrollTop = (top * this.scale) / before - y + PADDING;
  }

  closer() {
    this.by(STEP);
  }

  farther() {
    this.by(1 / STEP);
  }

  #apply() {
    this.#canvas.style.transform = `scale(${this.scale})`;
    this.#space.style.width = `${Math.ceil(this.#size.width * this.scale)}px`;
    this.#space.style.height = `${Math.ceil(this.#size.height * this.scale)}px`;
  }

  #at(event) {
    const { left, top } = this.#region.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #onWheel(event) {
    if (!event.ctrlKey && !event.metaKey) {
      const { scrollWidth, clientWidth, scrollHeight, clientHeight } = this.#region;
      if (scrollWidth > clientWidth || scrollHeight > clientHeight) this.isFree = true;
      return;
    }
    event.preventDefault();
    this.by(Math.exp(-event.deltaY * WHEEL), ...this.#at(event));
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { "+": () => this.closer(), "=": () => this.closer(), "-": () => this.farther(), 0: () => this.fit() }[event.key];
    if (action) {
      event.preventDefault();
      action();
    } else if (event.target === this.#region && event.key.startsWith("Arrow")) {
      this.isFree = true;
    }
  }

  #onDown(event) {
    this.#fingers.set(event.pointerId, this.#at(event));
    if (event.pointerType === "mouse" && event.button === 0) this.#drag = { at: this.#at(event), hasMoved: false };
  }

  #onMove(event) {
    if (!this.#fingers.has(event.pointerId)) return;
    const at = this.#at(event);
    if (this.#fingers.size === 2) this.#pinch(event.pointerId, at);
    else if (this.#drag) this.#pull(at);
    this.#fingers.set(event.pointerId, at);
  }

  #onUp(event) {
    this.#fingers.delete(event.pointerId);
    if (event.type !== "pointerup") this.#drag = null;
  }

  // The click after a drag chooses nothing.
  #onClick(event) {
    if (this.#drag?.hasMoved) event.stopPropagation();
    this.#drag = null;
  }

  #pull([x, y]) {
    const [fromX, fromY] = this.#drag.at;
    if (!this.#drag.hasMoved && Math.hypot(x - fromX, y - fromY) < DRAG) return;
    this.isFree = true;
    this.#region.scrollLeft -= x - fromX;
    this.#region.scrollTop -= y - fromY;
    this.#drag = { at: [x, y], hasMoved: true };
  }

  #pinch(id, at) {
    const other = [...this.#fingers].find(([one]) => one !== id)[1];
    const before = this.#fingers.get(id);
    const distance = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
    this.by(distance(at, other) / distance(before, other), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }
}
