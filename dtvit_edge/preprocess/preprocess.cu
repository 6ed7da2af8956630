// Stored CT pixels to model bytes: table, head mask, resize, crop; the contract is the CPU path (cpu.py), bit for bit.
//
// One block prepares one slice; a grid smaller than the batch goes round. Any block size is correct. Barriers are the
// only order between threads: what two threads write between two barriers is either apart or an atomic whose outcome
// does not depend on who comes first.
//
//   1  bytes = table[stored]; binary = bytes > threshold                  one word of 32 pixels a thread
//   2  eroded = binary eroded by the disk, its edge columns cleared       one word a thread
//   3  largest 8-connected component of it: runs of each row are united   one row, then one run a thread
//   4  mask = dilated component & binary                                  one word a thread
//   5  mask |= runs of zeros that no path of zeros joins to the border    as 3, 4-connected
//   6  head and brain pixels counted, bytes outside the mask cleared      one word a thread
//   7  horizontal, then vertical fixed-point taps, crop included          one output a thread
//
// Masks are bit-packed, bit x % 32 of word x / 32, rows padded to whole words with zeros. Two of them live in shared
// memory where the launch gives enough of it, else in the block's scratch. This file is also compiled for the CPU, with
// a header that stands in for CUDA's built-ins.

#ifdef DTVIT_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#else
#define SHARED_WORDS(name) extern __shared__ unsigned int name[]
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { MAX_DISK_ROWS = 31, MAX_ROWS = 1024, PRECISION_BITS = 22 };  // resample.py: PRECISION_BITS
enum { PREPARED = 0, TOO_MANY_RUNS = 1 };

// One slice. `stored` is its first pixel's index in the batch's buffer; `horizontal` and `vertical` are where its axes
// begin in `axes`: the number of taps k, then `crop` first source indices, then `crop` times k weights.
struct Job {
  u64 stored;
  int rows, columns, table, horizontal, vertical, reserved;
};

struct Spec {
  int channels, crop, threshold, edge_columns, brain_low, brain_high, device_mask, disk_rows;
  int half_widths[MAX_DISK_ROWS];
};

// Every block's own memory: `bytes` a block, and how many runs of pixels it can label. Noise can have more.
struct Scratch {
  u8* memory;
  u64 bytes;
  u32 run_capacity;
  int masks_in_shared;
};

// Pixels of the head, those of them in the brain's range, PREPARED or TOO_MANY_RUNS, most runs that were asked for.
struct Found {
  u32 head, brain, status, runs;
};

// A block's memory, cut up for one slice.
struct Work {
  u32 *binary, *eroded;           // rows * words each
  u32 *runs, *parents, *weights;  // run_capacity each
  u32* first_run;                 // rows + 1: where each row's runs begin
  u8 *bytes, *narrow;             // rows * columns; rows * crop
  u64* best;
  u32* counts;  // head, brain
  int rows, columns, words;
  u32 capacity;
};

// A run: first and last column, and row, each below 1,024.
__device__ static u32 run_of(int first, int row) { return (u32)first | (u32)row << 20; }
__device__ static int first_of(u32 run) { return run & 1023; }
__device__ static int last_of(u32 run) { return run >> 10 & 1023; }
__device__ static int row_of(u32 run) { return run >> 20; }

// Bits of word `word` whose columns lie in [from, to).
__device__ static u32 columns_in(int word, int from, int to) {
  const int low = max(from - 32 * word, 0), high = min(to - 32 * word, 32);
  if (low >= high) return 0;
  return (high == 32 ? ~0u : (1u << high) - 1) & ~0u << low;
}

// ---- 1: table and threshold

__device__ static void binarise(const Work& w, const u16* stored, const u8* table, int threshold) {
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int row = i / w.words, column = i % w.words * 32, count = min(32, w.columns - column);
    const int place = row * w.columns + column;
    u32 bits = 0;
    for (int x = 0; x < count; x++) {
      const u8 byte = table[stored[place + x]];
      w.bytes[place + x] = byte;
      bits |= (u32)(byte > threshold) << x;
    }
    w.binary[i] = bits;
  }
}

// ---- 2 and 4: the disk. Outside the image counts as 0 for both.

template <bool ERODE>
__device__ static u32 disk(const Work& w, const u32* mask, const Spec& spec, int row, int word) {
  u32 found = ERODE ? ~0u : 0;
  for (int i = 0; i < spec.disk_rows; i++) {
    const int y = row + i - spec.disk_rows / 2;
    if (y < 0 || y >= w.rows) {
      if (ERODE) return 0;
      continue;
    }
    const u32* line = mask + y * w.words;
    const u32 here = line[word], before = word ? line[word - 1] : 0, after = word + 1 < w.words ? line[word + 1] : 0;
    found = ERODE ? found & here : found | here;
    for (int d = 1; d <= spec.half_widths[i]; d++) {
      const u32 left = here << d | before >> (32 - d), right = here >> d | after << (32 - d);
      found = ERODE ? found & left & right : found | left | right;
    }
  }
  return found;
}

__device__ static void erode(const Work& w, const Spec& spec) {
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int row = i / w.words, word = i % w.words;
    const u32 inner = columns_in(word, spec.edge_columns, w.columns - spec.edge_columns);
    w.eroded[i] = inner ? inner & disk<true>(w, w.binary, spec, row, word) : 0;
  }
}

__device__ static void dilate_within_binary(const Work& w, const Spec& spec) {
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x)
    if (w.binary[i]) w.binary[i] &= disk<false>(w, w.eroded, spec, i / w.words, i % w.words);
}

// ---- 3 and 5: runs of ones, or of zeros, as the nodes of a forest; a root is its component's first run in raster order

template <bool ZEROS>
__device__ static u32 bits_of(const Work& w, const u32* mask, int row, int word) {
  const u32 bits = mask[row * w.words + word];
  return ZEROS ? ~bits & columns_in(word, 0, w.columns) : bits;
}

// Finds every row's runs, and what they touch in the row above. The number of runs is the same for all threads; the
// forest is left alone where it is larger than the capacity.
template <bool ZEROS>
__device__ static u32 label_runs(const Work& w, const u32* mask) {
  for (int row = threadIdx.x; row < w.rows; row += blockDim.x) {
    u32 count = 0, carry = 0;
    for (int word = 0; word < w.words; word++) {
      const u32 bits = bits_of<ZEROS>(w, mask, row, word);
      count += __popc(bits & ~(bits << 1 | carry));
      carry = bits >> 31;
    }
    w.first_run[row + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    w.first_run[0] = 0;
    for (int row = 0; row < w.rows; row++) w.first_run[row + 1] += w.first_run[row];
  }
  __syncthreads();
  const u32 total = w.first_run[w.rows];
  if (total > w.capacity) return total;

  for (int row = threadIdx.x; row < w.rows; row += blockDim.x) {
    u32 opened = w.first_run[row], closed = opened, carry = 0, bits = bits_of<ZEROS>(w, mask, row, 0);
    for (int word = 0; word < w.words; word++) {
      const u32 after = word + 1 < w.words ? bits_of<ZEROS>(w, mask, row, word + 1) : 0;
      for (u32 starts = bits & ~(bits << 1 | carry); starts; starts &= starts - 1, opened++) {
        w.runs[opened] = run_of(32 * word + __ffs(starts) - 1, row);
        w.parents[opened] = opened;
        w.weights[opened] = 0;
      }
      for (u32 ends = bits & ~(bits >> 1 | after << 31); ends; ends &= ends - 1, closed++)
        w.runs[closed] |= (u32)(32 * word + __ffs(ends) - 1) << 10;
      carry = bits >> 31;
      bits = after;
    }
  }
  __syncthreads();
  return total;
}

__device__ static u32 root_of(const u32* parents, u32 run) {
  // Others write here at the same time: every value is an ancestor, an old one only a nearer one.
  const volatile u32* seen = parents;
  for (u32 parent = seen[run]; parent != run; parent = seen[run]) run = parent;
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

// Joins runs of neighbouring rows that touch: diagonally too with a slack of 1.
__device__ static void unite_rows(const Work& w, int slack) {
  for (int row = threadIdx.x + 1; row < w.rows; row += blockDim.x) {
    u32 above = w.first_run[row - 1], here = w.first_run[row];
    const u32 above_end = here, here_end = w.first_run[row + 1];
    while (above < above_end && here < here_end) {
      const u32 a = w.runs[above], b = w.runs[here];
      if (first_of(a) <= last_of(b) + slack && first_of(b) <= last_of(a) + slack) unite(w.parents, above, here);
      if (last_of(a) < last_of(b)) above++;
      else here++;
    }
  }
  __syncthreads();
}

__device__ static void set_columns(u32* line, u32 run) {
  for (int word = first_of(run) / 32; word <= last_of(run) / 32; word++)
    line[word] |= columns_in(word, first_of(run), last_of(run) + 1);
}

// Leaves the largest 8-connected component in `eroded`, of equals the one whose first pixel comes first.
__device__ static u32 keep_largest(const Work& w) {
  const u32 total = label_runs<false>(w, w.eroded);
  if (total > w.capacity) return total;
  unite_rows(w, 1);
  for (u32 i = threadIdx.x; i < total; i += blockDim.x)
    atomicAdd(w.weights + root_of(w.parents, i), (u32)(last_of(w.runs[i]) - first_of(w.runs[i]) + 1));
  __syncthreads();
  u64 own = 0;
  for (u32 i = threadIdx.x; i < total; i += blockDim.x)
    if (w.weights[i]) own = max(own, (u64)w.weights[i] << 32 | (u32)~i);  // only roots have a weight
  if (own) atomicMax(w.best, own);
  __syncthreads();
  const u32 winner = ~(u32)*w.best;
  for (int row = threadIdx.x; row < w.rows; row += blockDim.x) {
    u32* line = w.eroded + row * w.words;
    for (int word = 0; word < w.words; word++) line[word] = 0;
    for (u32 i = w.first_run[row]; i < w.first_run[row + 1]; i++)
      if (root_of(w.parents, i) == winner) set_columns(line, w.runs[i]);
  }
  __syncthreads();
  return total;
}

// Sets the zeros of `binary` that are not 4-connected to the outside.
__device__ static u32 fill_holes(const Work& w) {
  const u32 total = label_runs<true>(w, w.binary);
  if (total > w.capacity) return total;
  unite_rows(w, 0);
  for (u32 i = threadIdx.x; i < total; i += blockDim.x) {
    const u32 run = w.runs[i];
    const int row = row_of(run);
    if (row == 0 || row == w.rows - 1 || first_of(run) == 0 || last_of(run) == w.columns - 1)
      atomicOr(w.weights + root_of(w.parents, i), 1u);
  }
  __syncthreads();
  for (int row = threadIdx.x; row < w.rows; row += blockDim.x)
    for (u32 i = w.first_run[row]; i < w.first_run[row + 1]; i++)
      if (!w.weights[root_of(w.parents, i)]) set_columns(w.binary + row * w.words, w.runs[i]);
  __syncthreads();
  return total;
}

// ---- 6: counts, and bytes of the head alone

__device__ static void count_and_clear(const Work& w, const Spec& spec) {
  u32 head = 0, brain = 0;
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int column = i % w.words * 32, count = min(32, w.columns - column);
    u8* bytes = w.bytes + i / w.words * w.columns + column;
    const u32 bits = w.binary[i];
    head += __popc(bits);
    for (int x = 0; x < count; x++) {
      if (!(bits >> x & 1)) bytes[x] = spec.device_mask ? 0 : bytes[x];
      else brain += bytes[x] >= spec.brain_low && bytes[x] <= spec.brain_high;
    }
  }
  if (head) atomicAdd(w.counts, head);
  if (brain) atomicAdd(w.counts + 1, brain);
  __syncthreads();
}

// Another channel's bytes: of the head alone, or of everything where the spec has no mask.
__device__ static void channel_bytes(const Work& w, const Spec& spec, const u16* stored, const u8* table) {
  const u32 outside = !spec.device_mask;
  for (int i = threadIdx.x; i < w.rows * w.columns; i += blockDim.x) {
    const int row = i / w.columns, column = i % w.columns;
    const u32 inside = w.binary[row * w.words + column / 32] >> column % 32 & 1;
    w.bytes[i] = inside | outside ? table[stored[i]] : 0;
  }
  __syncthreads();
}

// ---- 7: resize and crop

// Bicubic's negative weights overshoot on both sides.
__device__ static u8 byte_of(int sum) { return (u8)max(0, min(sum >> PRECISION_BITS, 255)); }

__device__ static void resample(const Work& w, const int* horizontal, const int* vertical, int crop, u8* out) {
  const int across = horizontal[0], down = vertical[0];
  const int *left = horizontal + 1, *top = vertical + 1;
  const int *row_taps = left + crop, *column_taps = top + crop;
  const int first = top[0], last = min(top[crop - 1] + down, w.rows);  // starts never go back
  for (int i = threadIdx.x; i < (last - first) * crop; i += blockDim.x) {
    const int row = first + i / crop, x = i % crop;
    const u8* line = w.bytes + row * w.columns;
    int sum = 1 << (PRECISION_BITS - 1);
    for (int tap = 0; tap < across; tap++)  // taps beyond the edge weigh 0
      sum += row_taps[x * across + tap] * line[min(left[x] + tap, w.columns - 1)];
    w.narrow[row * crop + x] = byte_of(sum);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < crop * crop; i += blockDim.x) {
    const int y = i / crop, x = i % crop;
    int sum = 1 << (PRECISION_BITS - 1);
    for (int tap = 0; tap < down; tap++)
      sum += column_taps[y * down + tap] * w.narrow[min(top[y] + tap, w.rows - 1) * crop + x];
    out[i] = byte_of(sum);
  }
}

// ---- the whole slice

__device__ static u8* cut(u8*& place, u64 bytes) {
  u8* found = place;
  place += (bytes + 15) / 16 * 16;
  return found;
}

// `small` holds the first runs of rows, the best component and the counts: SMALL_WORDS words of shared memory.
enum { SMALL_WORDS = MAX_ROWS + 8 };

__device__ static Work cut_up(const Job& job, const Spec& spec, const Scratch& scratch, u32* shared) {
  Work w;
  w.rows = job.rows;
  w.columns = job.columns;
  w.words = (job.columns + 31) / 32;
  w.capacity = scratch.run_capacity;
  w.best = (u64*)shared;
  w.counts = shared + 2;
  w.first_run = shared + 4;
  u8* place = scratch.memory + blockIdx.x * scratch.bytes;
  w.runs = (u32*)cut(place, 4ull * w.capacity);
  w.parents = (u32*)cut(place, 4ull * w.capacity);
  w.weights = (u32*)cut(place, 4ull * w.capacity);
  w.bytes = cut(place, (u64)w.rows * w.columns);
  w.narrow = cut(place, (u64)w.rows * spec.crop);
  const u64 mask = 4ull * w.rows * w.words;
  u8* masks = scratch.masks_in_shared ? (u8*)(shared + SMALL_WORDS) : place;
  w.binary = (u32*)masks;
  w.eroded = (u32*)(masks + mask);
  return w;
}

// How many runs were asked for at most: more than the capacity, and there is no mask.
__device__ static u32 find_head(const Work& w, const Spec& spec) {
  erode(w, spec);
  __syncthreads();
  const u32 ones = keep_largest(w);
  if (ones > w.capacity) return ones;
  dilate_within_binary(w, spec);
  __syncthreads();
  return max(ones, fill_holes(w));
}

// jobs: (count,); tables: (tables, channels, 65536); out: (count, channels, crop, crop); found: (count,).
// Shared memory: SMALL_WORDS words, and two masks of the largest slice where `scratch.masks_in_shared` says so.
// A slice with more runs than the scratch can label leaves its output alone and says so in `found`.
extern "C" __global__ void preprocess(const Job* jobs, int count, const u16* stored, const u8* tables, const int* axes,
                                      Spec spec, Scratch scratch, u8* out, Found* found) {
  SHARED_WORDS(shared);
  for (int slice = blockIdx.x; slice < count; slice += gridDim.x) {
    const Job job = jobs[slice];
    const Work w = cut_up(job, spec, scratch, shared);
    const u16* pixels = stored + job.stored;
    const u8* table = tables + (u64)job.table * spec.channels * 65536;
    if (threadIdx.x == 0) {
      *w.best = 0;
      w.counts[0] = w.counts[1] = 0;
    }
    binarise(w, pixels, table, spec.threshold);
    __syncthreads();
    const u32 runs = find_head(w, spec);
    const bool prepared = runs <= w.capacity;
    if (prepared) {
      count_and_clear(w, spec);
      for (int channel = 0; channel < spec.channels; channel++) {
        u8* own = out + ((u64)slice * spec.channels + channel) * spec.crop * spec.crop;
        if (!w.counts[0]) {  // no head: all 0, whatever the spec says of the mask
          for (int i = threadIdx.x; i < spec.crop * spec.crop; i += blockDim.x) own[i] = 0;
          continue;
        }
        if (channel) channel_bytes(w, spec, pixels, table + channel * 65536);
        resample(w, axes + job.horizontal, axes + job.vertical, spec.crop, own);
      }
    }
    if (threadIdx.x == 0)
      found[slice] = Found{w.counts[0], w.counts[1], (u32)(prepared ? PREPARED : TOO_MANY_RUNS), runs};
    __syncthreads();  // the next slice cuts the same memory up in another way
  }
}
