// Times that several parts of the page show.

import { seconds } from "../dom.js";

export function timeLeft({ eta_s: eta, at }, now) {
  if (eta === undefined || eta === null) return [];
  return [`about ${seconds(Math.max(0, eta - (now - at) / 1000))} left`];
}
