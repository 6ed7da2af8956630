// Stored CT pixels to model bytes: table, head mask, resize, crop; the contract is the CPU path (cpu.py), bit for bit.
//
// Two ways, the same functions and the same bytes. In large batches `preprocess` prepares a slice a block; a grid smaller
// than the batch goes round. In small ones a slice is spread over the GPU by three launches: `preprocess_binarise` on
// tiles of rows, `preprocess_mask` with one block a slice, `preprocess_resize` on tiles of output rows. Any block size is
// correct. Barriers, and the ends of launches, are the only order between threads: what two threads write without one
// between them is either apart, or an atomic whose outcome does not depend on who comes first, or a volatile word (a relaxed
// access in PTX) of which any value that a reader may meet will do: parents in `flatten`, flags of open holes. racecheck of
// compute-sanitizer reports these words and must report no others.
//
//   1  bytes = table[stored]; binary = bytes > threshold; brain range      eight pixels a thread
//   2  eroded = binary eroded by the disk, its edge columns cleared        a word of 32 pixels a thread
//   3  largest 8-connected component of it, by runs of each row            labels.cuh
//   4  mask = dilated component & binary                                   a word a thread
//   5  mask |= runs of zeros that no path of zeros joins to the border     labels.cuh, 4-connected
//   6  head and brain pixels counted                                       a word a thread
//   7  horizontal, then vertical fixed-point taps, crop included           resize.cuh
//
// Masks are bit-packed, bit x % 32 of word x / 32, zeros beyond the last column. Their rows are an odd number of words
// apart: a thread a row would find all rows in a few of shared memory's 32 banks otherwise. This file is also compiled
// for the CPU, with a header that stands in for CUDA's built-ins and counts reads that wait for each other.

#ifdef DTVIT_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#else
#define SHARED_WORDS(name) extern __shared__ __align__(16) unsigned int name[]
#define DEPENDENT_READS(count)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// kernel.py has them too.
enum { MAX_DISK_ROWS = 31, MAX_ROWS = 1024, NARROW_BYTES = 24 << 10, LINES_BYTES = 16 << 10 };
enum { BLOCK_THREADS = 512, TILE_THREADS = 256, MASK_THREADS = 1024 };  // of whole, spread, and spread mask blocks
enum { PREPARED = 0, TOO_MANY_RUNS = 1 };

// One slice. `stored` is the address of its first pixel, a multiple of 16; rows are padded to multiples of 8 pixels.
// `table`, `horizontal` and `vertical` are where in `constants` its table of 65,536 bytes a channel and its axes begin.
struct SliceInput {
  u64 stored;
  int rows, columns;
  u32 table, horizontal, vertical, reserved;
};

struct Spec {
  int channels, crop, threshold, edge_columns, brain_low, brain_high, device_mask, disk_rows;
  int half_widths[MAX_DISK_ROWS];
};

// Global memory of a block of `preprocess`, or of a slice that is spread over `tiles`: `bytes` each, with labels for
// `run_capacity` runs. In shared memory lie labels of `shared_runs`, and both masks if `masks_in_shared`.
struct Scratch {
  u8* memory;
  u64 bytes;
  u32 run_capacity, shared_runs, tiles;
  int masks_in_shared;
};

// Pixels of the head, those of them in the brain's range, PREPARED or TOO_MANY_RUNS, most runs that were asked for.
struct HeadStats {
  u32 head, brain, status, runs;
};

// What every kernel is launched with. inputs: (count,); constants: tables and axes; out: (count, channels, crop, crop);
// stats: (count,).
struct Arguments {
  const SliceInput* inputs;
  const u8* constants;
  u8* out;
  HeadStats* stats;
  Scratch scratch;
  Spec spec;
  int count;
};

// Room for so many runs, their parents and their weights, one behind the other.
struct Labels {
  u32* runs;
  u32 capacity;
  __device__ u32* parents() const { return runs + capacity; }
  __device__ u32* weights() const { return runs + 2 * capacity; }
};

// What one block works on. All mask rows are `pitch` words apart, rows of bytes 8 * `groups`.
struct Work {
  int rows, columns, words, pitch, groups;
  u8* bytes;  // channels * rows * 8 * groups
  u32 *brain, *binary, *eroded;
  Labels near, far;  // in shared memory and in scratch
  u8* room;          // of the resize
  u32* small;        // the fixed words of shared memory: best component, counts, totals of warps, first runs
  __device__ u64* best() const { return (u64*)small; }
  __device__ u32* counts() const { return small + 2; }  // head, brain
  __device__ u32* totals() const { return small + 4; }
  __device__ u32* first_run() const { return small + 36; }  // rows + 1: where each row's runs begin
};

enum { SMALL_WORDS = 36 + MAX_ROWS + 4 };

__device__ static u8* cut(u8*& place, u64 bytes) {
  u8* part = place;
  place += (bytes + 15) / 16 * 16;
  return part;
}

// The place of a slice that is spread begins with what `preprocess_mask` tells `preprocess_resize` of it.
__device__ static HeadStats* verdict_of(const Scratch& scratch, int slice) {
  return (HeadStats*)(scratch.memory + slice * scratch.bytes);
}

__device__ static Work cut_up(const SliceInput& input, const Spec& spec, const Scratch& scratch, int place_of,
                              u32* shared, bool masks_in_shared) {
  Work w;
  w.rows = input.rows;
  w.columns = input.columns;
  w.words = (input.columns + 31) / 32;
  w.pitch = w.words | 1;
  w.groups = (input.columns + 7) / 8;
  const u64 mask = 4ull * w.rows * w.pitch;
  u8* place = scratch.memory + place_of * scratch.bytes + sizeof(HeadStats);
  w.bytes = cut(place, 8ull * spec.channels * w.rows * w.groups);
  w.brain = (u32*)cut(place, mask);
  w.binary = (u32*)cut(place, mask);
  w.eroded = (u32*)cut(place, mask);
  w.far = Labels{(u32*)place, scratch.run_capacity};
  w.small = shared;
  u8* area = (u8*)(shared + SMALL_WORDS);
  if (masks_in_shared) w.binary = (u32*)cut(area, mask);
  w.room = area;  // the resize comes when the eroded mask and the labels are done with
  if (masks_in_shared) w.eroded = (u32*)cut(area, mask);
  w.near = Labels{(u32*)area, scratch.shared_runs};
  return w;
}

// Bits of word `word` whose columns lie in [from, to).
__device__ static u32 columns_in(int word, int from, int to) {
  const int low = max(from - 32 * word, 0), high = min(to - 32 * word, 32);
  if (low >= high) return 0;
  return (high == 32 ? ~0u : (1u << high) - 1) & ~0u << low;
}

// Of each lane the sum of the values of the lanes up to it.
__device__ static u32 warp_sums(u32 value) {
  for (u32 distance = 1; distance < 32; distance *= 2) {
    const u32 other = __shfl_up_sync(~0u, value, distance);
    if (threadIdx.x % 32 >= distance) value += other;
  }
  return value;
}

__device__ static bool last_of_warp() { return threadIdx.x % 32 == 31 || threadIdx.x == blockDim.x - 1; }

#include "labels.cuh"
#include "resize.cuh"

// ---- 1: table, threshold and brain range, rows [first, last)

__device__ static void binarise(const Work& w, const SliceInput& input, const Spec& spec, const u8* table, int first,
                                int last) {
  const uint4* pixels = (const uint4*)input.stored;
  const int groups = 4 * w.words;  // beyond w.groups lie zeros alone, up to the last word's end
  for (int i = threadIdx.x; i < (last - first) * groups; i += blockDim.x) {
    const int row = first + i / groups, group = i % groups, place = row * w.groups + group;
    u32 above = 0, brain = 0;
    if (group < w.groups) {
      const uint4 eight = pixels[place];
      const u32 pairs[4] = {eight.x, eight.y, eight.z, eight.w};
      for (int channel = 0; channel < spec.channels; channel++) {
        u64 bytes = 0;
#pragma unroll
        for (int x = 0; x < 8; x++) {
          const u32 byte = table[channel * 65536 + (pairs[x / 2] >> x % 2 * 16 & 0xFFFF)];
          bytes |= (u64)byte << 8 * x;
          if (channel) continue;
          above |= (u32)((int)byte > spec.threshold) << x;
          brain |= (u32)((int)byte >= spec.brain_low && (int)byte <= spec.brain_high) << x;
        }
        ((u64*)w.bytes)[(u64)channel * w.rows * w.groups + place] = bytes;
      }
      const u32 inside = columns_in(0, 0, min(w.columns - 8 * group, 8));
      above &= inside;
      brain &= inside;
    }
    ((u8*)(w.binary + row * w.pitch))[group] = (u8)above;
    ((u8*)(w.brain + row * w.pitch))[group] = (u8)brain;
  }
}

// ---- 2 and 4: the disk. Outside the image counts as 0 for both.

template <bool ERODE>
__device__ static u32 disk(const Work& w, const u32* mask, const Spec& spec, int row, int word) {
  u32 result = ERODE ? ~0u : 0;
  for (int i = 0; i < spec.disk_rows; i++) {
    const int y = row + i - spec.disk_rows / 2;
    if (y < 0 || y >= w.rows) {
      if (ERODE) return 0;
      continue;
    }
    const u32* line = mask + y * w.pitch;
    const u32 here = line[word], before = word ? line[word - 1] : 0, after = word + 1 < w.words ? line[word + 1] : 0;
    if (ERODE ? (here & before & after) == ~0u : (here | before | after) == 0) continue;  // no shift changes anything
    result = ERODE ? result & here : result | here;
    if (ERODE && !result) return 0;
    for (int d = 1; d <= spec.half_widths[i]; d++) {
      const u32 left = here << d | before >> (32 - d), right = here >> d | after << (32 - d);
      result = ERODE ? result & left & right : result | left | right;
    }
  }
  return result;
}

__device__ static void erode(const Work& w, const Spec& spec) {
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int row = i / w.words, word = i % w.words;
    const u32 inner = columns_in(word, spec.edge_columns, w.columns - spec.edge_columns);
    w.eroded[row * w.pitch + word] = inner ? inner & disk<true>(w, w.binary, spec, row, word) : 0;
  }
}

__device__ static void dilate_within_binary(const Work& w, const Spec& spec) {
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int row = i / w.words, word = i % w.words;
    u32& bits = w.binary[row * w.pitch + word];
    if (bits) bits &= disk<false>(w, w.eroded, spec, row, word);
  }
}

// ---- 2 to 6: `binary` becomes the mask; for all threads the same counts, and a barrier at the end

__device__ static void count_pixels(const Work& w) {
  u32 head = 0, brain = 0;
  for (int i = threadIdx.x; i < w.rows * w.words; i += blockDim.x) {
    const int place = i / w.words * w.pitch + i % w.words;
    head += __popc(w.binary[place]);
    brain += __popc(w.binary[place] & w.brain[place]);
  }
  head = warp_sums(head);
  brain = warp_sums(brain);
  if (last_of_warp() && head) {
    atomicAdd(w.counts(), head);
    atomicAdd(w.counts() + 1, brain);
  }
  __syncthreads();
}

__device__ static HeadStats find_head(const Work& w, const Spec& spec) {
  if (threadIdx.x == 0) {
    *w.best() = 0;
    w.counts()[0] = w.counts()[1] = 0;
  }
  erode(w, spec);
  __syncthreads();
  const u32 ones = keep_largest(w);
  if (ones > most_runs(w)) return HeadStats{0, 0, TOO_MANY_RUNS, ones};
  dilate_within_binary(w, spec);
  __syncthreads();
  const u32 zeros = fill_holes(w), runs = max(ones, zeros);
  if (zeros > most_runs(w)) return HeadStats{0, 0, TOO_MANY_RUNS, runs};
  count_pixels(w);
  return HeadStats{w.counts()[0], w.counts()[1], PREPARED, runs};
}

// ---- 7: all channels' output rows [first, last) of a slice; none where there is no mask

__device__ static void write_rows(const Work& w, const SliceInput& input, const Spec& spec, const u8* constants,
                                  const HeadStats& found, u8* out, int first, int last) {
  if (found.status != PREPARED) return;
  for (int channel = 0; channel < spec.channels; channel++) {
    u8* plane = out + (u64)channel * spec.crop * spec.crop;
    if (found.head)
      resize(w, spec, channel, (const int*)(constants + input.horizontal), (const int*)(constants + input.vertical),
             plane, first, last);
    else  // no head: all 0, whatever the spec says of the mask
      for (int i = first * spec.crop + threadIdx.x; i < last * spec.crop; i += blockDim.x) plane[i] = 0;
  }
}

// ---- kernels. Shared memory: SMALL_WORDS words, then masks and labels, in whose place the resize's NARROW_BYTES and
// LINES_BYTES come later; `preprocess_binarise` needs none. A slice with more runs than the scratch can label leaves its output alone and says so in `stats`.

__device__ static u8* output_of(const Arguments& a, int slice) {
  return a.out + (u64)slice * a.spec.channels * a.spec.crop * a.spec.crop;
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, 2) preprocess(const Arguments a) {
  SHARED_WORDS(shared);
  for (int slice = blockIdx.x; slice < a.count; slice += gridDim.x) {
    const SliceInput input = a.inputs[slice];
    const Work w = cut_up(input, a.spec, a.scratch, blockIdx.x, shared, a.scratch.masks_in_shared);
    binarise(w, input, a.spec, a.constants + input.table, 0, w.rows);
    __syncthreads();
    const HeadStats found = find_head(w, a.spec);
    write_rows(w, input, a.spec, a.constants, found, output_of(a, slice), 0, a.spec.crop);
    if (threadIdx.x == 0) a.stats[slice] = found;
    __syncthreads();  // the next slice cuts the same memory up in another way
  }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 4) preprocess_binarise(const Arguments a) {
  const int tiles = a.scratch.tiles, slice = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const SliceInput input = a.inputs[slice];
  const Work w = cut_up(input, a.spec, a.scratch, slice, 0, false);
  binarise(w, input, a.spec, a.constants + input.table, w.rows * tile / tiles, w.rows * (tile + 1) / tiles);
}

extern "C" __global__ void __launch_bounds__(MASK_THREADS, 1) preprocess_mask(const Arguments a) {
  SHARED_WORDS(shared);
  const bool copied = a.scratch.masks_in_shared;
  const int slice = blockIdx.x;
  const SliceInput input = a.inputs[slice];
  u32* const kept = cut_up(input, a.spec, a.scratch, slice, shared, false).binary;
  const Work w = cut_up(input, a.spec, a.scratch, slice, shared, copied);
  for (int i = threadIdx.x; copied && i < w.rows * w.pitch; i += blockDim.x) w.binary[i] = kept[i];
  __syncthreads();
  const HeadStats found = find_head(w, a.spec);
  for (int i = threadIdx.x; copied && i < w.rows * w.pitch; i += blockDim.x) kept[i] = w.binary[i];
  if (threadIdx.x == 0) a.stats[slice] = *verdict_of(a.scratch, slice) = found;
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 4) preprocess_resize(const Arguments a) {
  SHARED_WORDS(shared);
  const int tiles = a.scratch.tiles, slice = blockIdx.x / tiles, tile = blockIdx.x % tiles, crop = a.spec.crop;
  const SliceInput input = a.inputs[slice];
  const Work w = cut_up(input, a.spec, a.scratch, slice, shared, false);
  write_rows(w, input, a.spec, a.constants, *verdict_of(a.scratch, slice), output_of(a, slice), crop * tile / tiles,
             crop * (tile + 1) / tiles);
}
