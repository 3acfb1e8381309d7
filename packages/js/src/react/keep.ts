// State of a run that is kept over a reload of the page, in `sessionStorage`.

import { Run } from "./run.js";

const LIMIT = 1_000_000; // characters of the largest state that is kept

export interface Kept {
  /** Options with which the run was read; see `identityOf`. */
  readonly identity: string;
  /** Position after the run's last update. */
  readonly position: string | null;
  /** true: no update will follow. */
  readonly isOver: boolean;
  readonly run: Run;
}

export function keep(key: string, kept: Kept) {
  const text = JSON.stringify(kept);
  try {
    sessionStorage.removeItem(key);
    if (text.length <= LIMIT) sessionStorage.setItem(key, text);
  } catch {
    // The storage is full or forbidden: after a reload all updates arrive again.
  }
}

/** Returns what was kept with the same options; null: nothing. */
export function kept(key: string, identity: string): Kept | null {
  try {
    const found = JSON.parse(sessionStorage.getItem(key) ?? "null");
    if (found.identity !== identity || found.position === null) return null;
    return { ...found, run: Run.from(found.run) };
  } catch {
    return null; // no stored state, or not of this hook
  }
}
