/**
 * Calls `show` at most once each frame, however often it is asked to. A hidden page has no frames, but its title and
 * sounds may need the updates: there it is called four times a second.
 */
export class EachFrame {
  #stopWaiting: (() => void) | null = null;

  constructor(readonly show: () => void) {}

  request() {
    if (this.#stopWaiting !== null) return;
    const show = () => {
      this.#stopWaiting?.();
      this.#stopWaiting = null;
      this.show();
    };
    const frame = requestAnimationFrame(show);
    const timer = setTimeout(show, 250);
    this.#stopWaiting = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    };
  }
}
