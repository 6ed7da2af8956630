// Resize and crop of rows of one channel, for one block: horizontal, then vertical fixed-point taps, rounded to bytes
// between, in shared memory. Of what preprocess.cu declares.
//
// An axis is the number of taps k, then `crop` first source indices, which never go back, then k times `crop` weights,
// tap by tap, so that neighbouring threads read neighbouring weights. The vertical one begins with another number: how
// many output rows make a band, of whose source rows `narrow` holds all.

enum { PRECISION_BITS = 22 };  // resample.py: PRECISION_BITS

// Bicubic's negative weights overshoot on both sides.
__device__ static u8 byte_of(int sum) { return (u8)max(0, min(sum >> PRECISION_BITS, 255)); }

// 255 in each byte whose bit of eight is set.
__device__ static u64 spread(u32 bits) {
  const u64 apart = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return ((apart + 0x7F7F7F7F7F7F7F7Full) >> 7 & 0x0101010101010101ull) * 255;
}

// Source rows [first, first + count) as bytes of the head alone, or of everything where the spec has no mask.
__device__ static void stage(const Work& w, const Spec& spec, const u64* bytes, u64* lines, int first, int count) {
  for (int i = threadIdx.x; i < count * w.groups; i += blockDim.x) {
    const int row = first + i / w.groups, group = i % w.groups;
    const u32 inside = ((const u8*)(w.binary + row * w.pitch))[group];
    lines[i] = bytes[(u64)row * w.groups + group] & (spec.device_mask ? spread(inside) : ~0ull);
  }
}

// Taps beyond the edge weigh 0: what is read there does not matter, and `lines` goes on behind its last row.
__device__ static void narrow_rows(const Work& w, const u8* lines, const int* axis, int crop, u8* narrow, int pitch,
                                   int count) {
  const int taps = axis[0];
  const int *left = axis + 1, *weights = left + crop;
  for (int i = threadIdx.x; i < count * crop; i += blockDim.x) {
    const int row = i / crop, x = i % crop;
    const u8* line = lines + row * 8 * w.groups + left[x];
    int sum = 1 << (PRECISION_BITS - 1);
    for (int tap = 0; tap < taps; tap++) sum += weights[tap * crop + x] * line[tap];
    narrow[row * pitch + x] = byte_of(sum);
  }
}

// Output rows [first, last) of a band whose source rows begin with `source`; eight columns a thread.
__device__ static void join_rows(const u8* narrow, const int* axis, int crop, int pitch, int source, u8* out, int first,
                                 int last) {
  const int taps = axis[0], groups = pitch / 8;
  const int *top = axis + 1, *weights = top + crop;
  for (int i = threadIdx.x; i < (last - first) * groups; i += blockDim.x) {
    const int y = first + i / groups, x = i % groups * 8;
    const u8* column = narrow + (top[y] - source) * pitch + x;
    int sums[8];
#pragma unroll
    for (int k = 0; k < 8; k++) sums[k] = 1 << (PRECISION_BITS - 1);
#pragma unroll 2
    for (int tap = 0; tap < taps; tap++) {
      const u64 eight = *(const u64*)(column + tap * pitch);
      const int weight = weights[tap * crop + y];
#pragma unroll
      for (int k = 0; k < 8; k++) sums[k] += weight * (int)(eight >> 8 * k & 255);
    }
    u64 bytes = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) bytes |= (u64)byte_of(sums[k]) << 8 * k;
    u8* place = out + y * crop + x;
    if (crop % 8 == 0) *(u64*)place = bytes;
    else
      for (int k = 0; k < min(8, crop - x); k++) place[k] = (u8)(bytes >> 8 * k);
  }
}

__device__ static void resize(const Work& w, const Spec& spec, int channel, const int* horizontal, const int* vertical,
                              u8* out, int first, int last) {
  const int crop = spec.crop, pitch = (crop + 7) / 8 * 8, band = vertical[0];
  const int *axis = vertical + 1, *top = axis + 1;
  const u64* bytes = (const u64*)w.bytes + (u64)channel * w.rows * w.groups;
  u8 *narrow = w.room, *lines = w.room + NARROW_BYTES;
  const int most = (LINES_BYTES - horizontal[0]) / (8 * w.groups);  // rows of `lines`, its last taps included
  for (int begin = first; begin < last; begin += band) {
    const int end = min(begin + band, last), source = top[begin], stop = min(top[end - 1] + axis[0], w.rows);
    for (int row = source; row < stop; row += most) {
      const int count = min(most, stop - row);
      stage(w, spec, bytes, (u64*)lines, row, count);
      __syncthreads();
      narrow_rows(w, lines, horizontal, crop, narrow + (row - source) * pitch, pitch, count);
      __syncthreads();
    }
    join_rows(narrow, axis, crop, pitch, source, out, begin, end);  // `stage` touches none of it
  }
}
