// Components of a bit mask, for one block: runs of ones, or of zeros, are the nodes of a forest, and a root is its
// component's first run in raster order. Of what preprocess.cu declares.
//
// Every run first takes the first one that it touches in the row above for its parent, which needs no search for roots;
// pointer jumping makes the trees flat. What is left are runs that touch several above: all columns between two
// neighbours above are theirs, which the mask shows, and those two are united, on flat trees; a few jumps flatten again.

// A run: first and last column, and row, each below 1,024.
__device__ static u32 run_of(int first, int row) { return (u32)first | (u32)row << 20; }
__device__ static int first_of(u32 run) { return run & 1023; }
__device__ static int last_of(u32 run) { return run >> 10 & 1023; }
__device__ static int row_of(u32 run) { return run >> 20; }

__device__ static u32 most_runs(const Work& w) { return max(w.near.capacity, w.far.capacity); }

template <bool ZEROS>
__device__ static u32 bits_of(const Work& w, const u32* mask, int row, int word) {
  const u32 bits = mask[row * w.pitch + word];
  return ZEROS ? ~bits & columns_in(word, 0, w.columns) : bits;
}

// The sum of the values of all threads before this one; a barrier.
__device__ static u32 sum_before(const Work& w, u32 value) {
  const u32 up_to = warp_sums(value);
  if (last_of_warp()) w.totals()[threadIdx.x / 32] = up_to;
  __syncthreads();
  u32 sum = up_to - value;
  for (u32 warp = 0; warp < threadIdx.x / 32; warp++) sum += w.totals()[warp];
  return sum;
}

// Where each row's runs begin, and their number, which is the same for all threads. A thread has neighbouring rows.
template <bool ZEROS>
__device__ static u32 count_runs(const Work& w, const u32* mask) {
  const int each = (w.rows + blockDim.x - 1) / blockDim.x;
  const int first = min((int)threadIdx.x * each, w.rows), last = min(first + each, w.rows);
  u32 own = 0;
  for (int row = first; row < last; row++) {
    u32 count = 0, carry = 0;
    for (int word = 0; word < w.words; word++) {
      const u32 bits = bits_of<ZEROS>(w, mask, row, word);
      count += __popc(bits & ~(bits << 1 | carry));
      carry = bits >> 31;
    }
    w.first_run()[row] = count;
    own += count;
  }
  u32 begin = sum_before(w, own);
  for (int row = first; row < last; row++) {
    const u32 count = w.first_run()[row];
    w.first_run()[row] = begin;
    begin += count;
    if (row == w.rows - 1) w.first_run()[w.rows] = begin;
  }
  __syncthreads();
  return w.first_run()[w.rows];
}

template <bool ZEROS>
__device__ static void write_runs(const Work& w, const u32* mask, const Labels& labels) {
  for (int row = threadIdx.x; row < w.rows; row += blockDim.x) {
    u32 opened = w.first_run()[row], closed = opened, carry = 0, bits = bits_of<ZEROS>(w, mask, row, 0);
    for (int word = 0; word < w.words; word++) {
      const u32 after = word + 1 < w.words ? bits_of<ZEROS>(w, mask, row, word + 1) : 0;
      for (u32 starts = bits & ~(bits << 1 | carry); starts; starts &= starts - 1, opened++)
        labels.runs[opened] = run_of(32 * word + __ffs(starts) - 1, row);
      for (u32 ends = bits & ~(bits >> 1 | after << 31); ends; ends &= ends - 1, closed++)
        labels.runs[closed] |= (u32)(32 * word + __ffs(ends) - 1) << 10;
      carry = bits >> 31;
      bits = after;
    }
  }
  __syncthreads();
}

// The first run of the row above that touches a run, diagonally too with a slack of 1; the run itself without any.
__device__ static u32 first_above(const Work& w, const Labels& labels, u32 i, int slack) {
  const u32 run = labels.runs[i];
  const int row = row_of(run);
  if (!row) return i;
  const u32 begin = w.first_run()[row - 1], end = w.first_run()[row];
  const int column = first_of(run) - slack;
  u32 low = begin, high = end, probe = min(begin + (i - end), end - 1);
  for (u32 step = 0; low < high; step = 2 * step + 1) {  // rows are alike: near the same number, then by halves
    DEPENDENT_READS(1);
    if (last_of(labels.runs[probe]) < column) {
      low = probe + 1;
      probe = min(low + step, (low + high) / 2);
    } else {
      high = probe;
      probe = max((int)(high - 1 - step), (int)(low + high) / 2);
    }
  }
  DEPENDENT_READS(1);
  return low < end && first_of(labels.runs[low]) <= last_of(run) + slack ? low : i;
}

__device__ static void link_upwards(const Work& w, const Labels& labels, u32 total, int slack) {
  for (u32 i = threadIdx.x; i < total; i += blockDim.x) {
    labels.parents()[i] = first_above(w, labels, i, slack);
    labels.weights()[i] = 0;
  }
  __syncthreads();
}

// Every run's parent becomes its root; a barrier. Others write here at the same time: every value is an ancestor, an old
// one only a nearer one. Of a thread's first 32 runs those that have arrived are not looked at again. The barrier keeps
// the rounds together: a thread that came early would walk a long chain alone.
__device__ static void flatten(const Labels& labels, u32 total) {
  volatile u32* parents = labels.parents();
  u32 arrived = 0;
  bool moved;
  do {
    moved = false;
    for (u32 i = threadIdx.x, bit = 1; i < total; i += blockDim.x, bit <<= 1) {
      if (arrived & bit) continue;
      const u32 parent = parents[i], above = parents[parent];
      DEPENDENT_READS(1);
      if (parent == above) {
        arrived |= bit;
      } else {
        DEPENDENT_READS(1);
        parents[i] = parents[above];
        moved = true;
      }
    }
  } while (__syncthreads_or(moved));
}

__device__ static u32 root_of(const u32* parents, u32 run) {
  const volatile u32* seen = parents;
  for (u32 parent = seen[run]; parent != run; parent = seen[run]) {
    DEPENDENT_READS(1);
    run = parent;
  }
  return run;
}

__device__ static void unite(u32* parents, u32 a, u32 b) {
  for (;;) {
    a = root_of(parents, a);
    b = root_of(parents, b);
    if (a == b) return;
    const u32 high = max(a, b), low = min(a, b);
    const u32 before = atomicMin(parents + high, low);
    if (before == high) return;  // it was a root, and is none any more
    a = before;                  // somebody else was faster: what they linked it to belongs to `low` as well
    b = low;
  }
}

// Whether a run and the one before it touch the same run of the row below: it has all columns between them.
template <bool ZEROS>
__device__ static bool bridged(const Work& w, const u32* mask, u32 before, u32 run, int slack) {
  const int row = row_of(run), first = last_of(before) + slack, last = first_of(run) - slack;
  if (row_of(before) != row || row == w.rows - 1) return false;
  u32 missing = 0;
  for (int word = first / 32; word <= last / 32; word++)
    missing |= columns_in(word, first, last + 1) & ~bits_of<ZEROS>(w, mask, row + 1, word);
  DEPENDENT_READS(1);
  return !missing;
}

// Unites what `link_upwards` has left; a barrier. Whether there was any is the same for all threads.
template <bool ZEROS>
__device__ static bool unite_bridged(const Work& w, const u32* mask, const Labels& labels, u32 total, int slack) {
  bool any = false;
  for (u32 i = threadIdx.x + 1; i < total; i += blockDim.x)
    if (bridged<ZEROS>(w, mask, labels.runs[i - 1], labels.runs[i], slack)) {
      unite(labels.parents(), i - 1, i);
      any = true;
    }
  return __syncthreads_or(any);
}

// Finds every run, and in `parents` its component's first. Returns how many runs there are; where they are more than
// `most_runs`, nothing is labelled.
template <bool ZEROS>
__device__ static u32 label(const Work& w, const u32* mask, int slack, Labels& labels) {
  const u32 total = count_runs<ZEROS>(w, mask);
  if (total > most_runs(w)) return total;
  labels = total <= w.near.capacity ? w.near : w.far;
  write_runs<ZEROS>(w, mask, labels);
  link_upwards(w, labels, total, slack);
  flatten(labels, total);
  if (unite_bridged<ZEROS>(w, mask, labels, total, slack)) flatten(labels, total);
  return total;
}

// Sets or clears a run's columns: words at its ends may be other runs' too.
template <bool SET>
__device__ static void change_columns(const Work& w, u32* mask, u32 run) {
  u32* line = mask + row_of(run) * w.pitch;
  for (int word = first_of(run) / 32; word <= last_of(run) / 32; word++) {
    const u32 columns = columns_in(word, first_of(run), last_of(run) + 1);
    if (SET) atomicOr(line + word, columns);
    else atomicAnd(line + word, ~columns);
  }
}

// Leaves the largest 8-connected component in `eroded`, of equals the one whose first pixel comes first.
__device__ static u32 keep_largest(const Work& w) {
  Labels labels;
  const u32 total = label<false>(w, w.eroded, 1, labels);
  if (total > most_runs(w)) return total;
  for (u32 i = threadIdx.x; i < total; i += blockDim.x) {
    const u32 run = labels.runs[i];
    DEPENDENT_READS(1);
    atomicAdd(labels.weights() + labels.parents()[i], (u32)(last_of(run) - first_of(run) + 1));
  }
  __syncthreads();
  u64 heaviest = 0;
  for (u32 i = threadIdx.x; i < total; i += blockDim.x)
    if (labels.weights()[i]) heaviest = max(heaviest, (u64)labels.weights()[i] << 32 | (u32)~i);  // only roots have a weight
  if (heaviest) atomicMax(w.best(), heaviest);
  __syncthreads();
  const u32 winner = ~(u32)*w.best();
  for (u32 i = threadIdx.x; i < total; i += blockDim.x)
    if (labels.parents()[i] != winner) change_columns<false>(w, w.eroded, labels.runs[i]);
  __syncthreads();
  return total;
}

// Sets the zeros of `binary` that are not 4-connected to the outside.
__device__ static u32 fill_holes(const Work& w) {
  Labels labels;
  const u32 total = label<true>(w, w.binary, 0, labels);
  if (total > most_runs(w)) return total;
  for (u32 i = threadIdx.x; i < total; i += blockDim.x) {
    const u32 run = labels.runs[i];
    const int row = row_of(run);
    if (row && row != w.rows - 1 && first_of(run) && last_of(run) != w.columns - 1) continue;
    volatile u32* open = labels.weights() + labels.parents()[i];
    DEPENDENT_READS(1);
    if (!*open) *open = 1;  // whoever writes writes the same
  }
  __syncthreads();
  for (u32 i = threadIdx.x; i < total; i += blockDim.x) {
    DEPENDENT_READS(1);
    if (!labels.weights()[labels.parents()[i]]) change_columns<true>(w, w.binary, labels.runs[i]);
  }
  __syncthreads();
  return total;
}
