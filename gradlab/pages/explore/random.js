/** Random numbers: the generator of torch on the CPU, MT19937 (Matsumoto and Nishimura 1998). */

const LENGTH = 624;

export class Generator {
  /** @param {number} seed as in torch.Generator().manual_seed(seed) */
  constructor(seed) {
    this.state = new Uint32Array(LENGTH);
    this.state[0] = seed;
    for (let i = 1; i < LENGTH; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(before, 1812433253) + i;
    }
    this.next = LENGTH;
  }

  /** Return the next 32 random bits. */
  bits() {
    if (this.next === LENGTH) this.renew();
    let bits = this.state[this.next++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  renew() {
    const state = this.state;
    for (let i = 0; i < LENGTH; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % LENGTH] & 0x7fffffff);
      state[i] = state[(i + 397) % LENGTH] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  /** Return a number in [0, 1), as torch.rand draws it in float32. */
  uniform() {
    return (this.bits() & 0xffffff) / 0x1000000;
  }

  /**
   * Write a random order of 0 … n − 1, as torch.randperm draws it.
   * @param {Int32Array} order
   * @param {number} at where to write
   * @param {number} n
   */
  permute(order, at, n) {
    for (let i = 0; i < n; i++) order[at + i] = i;
    for (let i = 0; i < n - 1; i++) {
      const other = at + i + (this.bits() % (n - i));
      const kept = order[at + i];
      order[at + i] = order[other];
      order[other] = kept;
    }
  }
}
