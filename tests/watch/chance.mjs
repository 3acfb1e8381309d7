// Numbers by chance, the same ones for the same seed.
export function chance(seed) {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
  return { below: (limit) => Math.floor(next() * limit), isTrue: (share) => next() < share };
}
