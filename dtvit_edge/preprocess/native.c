/* One slice on the CPU: stored patterns in, model bytes out, bit for bit what `opencv.py` gives.
 *
 * Table, binarise, erode, clear the edge columns, keep the largest 8-connected component (of equals the one whose
 * first pixel comes first in raster order), dilate, intersect, fill holes, mask, resize, crop. `cpu.py` says what each
 * of these means, `native.py` builds the structures below, checks them, and owns all memory: nothing is allocated here,
 * nothing is kept from call to call, and any number of threads may call at once.
 *
 * Masks are bit-packed: 64 columns a word, the first column in the lowest bit, with a word of zeros at both ends of a
 * row. Components and holes are found over runs of equal bits by union-find. The horizontal pass of the resize works on
 * tiles of 16 rows that stand on their side, so that both passes compute 16 neighbours at once.
 *
 * On x86-64 the file is compiled twice into one library, for every processor and with -mavx2 -mbmi -mpopcnt
 * (hatch_build.py has the flags); `native.py` calls what the processor runs.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words of bits and of pixels are read as little-endian"
#endif
#ifndef DTVIT_SOURCE_DIGEST
#error "DTVIT_SOURCE_DIGEST, the sha256 of this file, has to be given: python hatch_build.py"
#endif

enum { MAX_CHANNELS = 3, MAX_DISK_ROWS = 31, WORD = 64, TILE = 16, PRECISION_BITS = 22, SKIPPED = 32 };

/* Of every pattern its byte; `zeros` patterns from `first_zero` on, past 65,535 from 0 again, have byte 0. */
typedef struct {
    const uint8_t *bytes;
    int32_t first_zero, zeros;
} table_t;

/* Output i is the sum of count[i] sources from start[i] on, by weights[i * width + ...] in 22-bit fixed point. */
typedef struct {
    const int32_t *start, *count, *weights;
    int32_t length, width;
} axis_t;

/* Everything about a slice but its pixels. All indices that `start` and `count` give lie inside the slice. */
typedef struct {
    table_t tables[MAX_CHANNELS];
    axis_t horizontal, vertical;
    int32_t rows, columns, channels, device_mask, threshold, edge_columns, brain_low, brain_high, disk_rows;
    int32_t half_widths[MAX_DISK_ROWS];
} plan_t;

typedef struct {
    int64_t head_pixels, brain_pixels;
} counts_t;

typedef uint8_t bytes4_t __attribute__((vector_size(4)));
typedef uint8_t bytes16_t __attribute__((vector_size(16)));
typedef uint16_t patterns_t __attribute__((vector_size(16)));
typedef int32_t sums_t __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))
#define STAGE static __attribute__((noinline))

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

/* Where the parts of the scratch lie. `line` is a row's words with the zeros at its ends; planes begin with their first
 * row, and have `pad` rows of zeros before and after. */
typedef struct {
    uint8_t *image, *strip, *tile, *sums, *narrow, *blank;
    uint64_t *binary, *grown, *shape, *columns;
    uint16_t *edges;
    int32_t *parent, *area, *row;
    int64_t bytes;
    int32_t words, line, pad, stride, narrow_stride;
} scratch_t;

INLINE int64_t part(int64_t *end, int64_t bytes) {
    int64_t start = *end;
    *end += (bytes + WORD - 1) / WORD * WORD;
    return start;
}

INLINE int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
INLINE int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

INLINE void layout(scratch_t *s, const plan_t *plan, uint8_t *memory) {
    s->words = (plan->columns + WORD - 1) / WORD;
    s->line = s->words + 2;
    s->pad = plan->disk_rows / 2;
    s->stride = s->words * WORD;
    s->narrow_stride = (plan->horizontal.length + TILE - 1) / TILE * TILE;
    int64_t plane = 8LL * s->line * (plan->rows + 2 * s->pad), before = (int64_t)s->line * s->pad + 1;
    int64_t runs = (int64_t)plan->rows * (plan->columns / 2 + 1) + 1, end = 0;
    int64_t margin = (int64_t)TILE * plan->horizontal.width;
#define PART(type, bytes) (type *)(memory + part(&end, bytes))
    s->image = PART(uint8_t, (int64_t)plan->rows * s->stride);
    s->strip = PART(uint8_t, (int64_t)TILE * s->stride);
    s->tile = PART(uint8_t, (int64_t)TILE * s->stride + 2 * margin) + margin;
    s->sums = PART(uint8_t, (int64_t)TILE * s->narrow_stride);
    s->narrow = PART(uint8_t, (int64_t)(plan->rows + TILE) * s->narrow_stride);
    s->blank = PART(uint8_t, plan->rows + TILE);
    s->binary = PART(uint64_t, plane) + before;
    s->grown = PART(uint64_t, plane) + before;
    s->shape = PART(uint64_t, plane) + before;
    s->columns = PART(uint64_t, 8LL * s->line) + 1;
    s->edges = PART(uint16_t, 4 * runs);
    s->parent = PART(int32_t, 4 * runs);
    s->area = PART(int32_t, 4 * runs);
    s->row = PART(int32_t, 4LL * (plan->rows + 1));
#undef PART
    s->bytes = end;
}

/* ---- Bytes and bits -------------------------------------------------------------------------------------------- */

/* Of 64 bytes, which lie in low..high; bit i is byte i. */
INLINE uint64_t in_range(const uint8_t *bytes, uint8_t low, uint8_t high) {
    uint64_t bits = 0;
    uint8_t span = (uint8_t)(high - low);
#if defined(__SSE2__)
    __m128i from = _mm_set1_epi8((char)low), most = _mm_set1_epi8((char)span), zero = _mm_setzero_si128();
    for (int i = 0; i < WORD; i += 16) {
        __m128i offset = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(bytes + i)), from);
        __m128i inside = _mm_cmpeq_epi8(_mm_subs_epu8(offset, most), zero);
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(inside) << i;
    }
#elif defined(__aarch64__)
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t from = vdupq_n_u8(low), most = vdupq_n_u8(span), place = vld1q_u8(places), part[4];
    for (int i = 0; i < 4; i++)
        part[i] = vandq_u8(vcleq_u8(vsubq_u8(vld1q_u8(bytes + 16 * i), from), most), place);
    uint8x16_t sum = vpaddq_u8(vpaddq_u8(part[0], part[1]), vpaddq_u8(part[2], part[3]));
    bits = vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
#else
    for (int i = 0; i < WORD; i++) bits |= (uint64_t)((uint8_t)(bytes[i] - low) <= span) << i;
#endif
    return bits;
}

/* 64 bytes, those whose bit is 0 as 0. */
INLINE void masked(uint8_t *to, const uint8_t *from, uint64_t bits) {
    if (bits == ~0ULL) {
        memcpy(to, from, WORD);
    } else if (bits == 0) {
        memset(to, 0, WORD);
    } else {
        for (int i = 0; i < 8; i++) {
            uint64_t eight, spread = (bits >> 8 * i & 0xFF) * 0x0101010101010101 & 0x8040201008040201;
            spread = ((spread + 0x7F7F7F7F7F7F7F7F) | spread) >> 7 & 0x0101010101010101;
            memcpy(&eight, from + 8 * i, 8);
            eight &= spread * 0xFF;
            memcpy(to + 8 * i, &eight, 8);
        }
    }
}

/* Patterns to bytes. Most of a slice is air: 32 patterns that all have byte 0 are not looked up one by one. */
INLINE void look_up(uint8_t *restrict to, const uint8_t *restrict stored, const table_t *table, int32_t count) {
    const uint8_t *bytes = table->bytes;
    uint16_t first = (uint16_t)table->first_zero, last = (uint16_t)(table->zeros - 1);
    int32_t i = 0;
    for (; i + SKIPPED <= count; i += SKIPPED) {
        if (table->zeros > 0) {
            patterns_t eight[4], other;
            memcpy(eight, stored + 2 * i, sizeof eight);
            for (int j = 0; j < 4; j++) eight[j] = (patterns_t)(eight[j] - first > last);
            other = eight[0] | eight[1] | eight[2] | eight[3];
            uint64_t two[2];
            memcpy(two, &other, sizeof two);
            if (!(two[0] | two[1])) {
                memset(to + i, 0, SKIPPED);
                continue;
            }
        }
        for (int j = i; j < i + SKIPPED; j += 4) {
            uint64_t four;
            memcpy(&four, stored + 2 * j, 8);
            to[j] = bytes[four & 0xFFFF];
            to[j + 1] = bytes[four >> 16 & 0xFFFF];
            to[j + 2] = bytes[four >> 32 & 0xFFFF];
            to[j + 3] = bytes[four >> 48];
        }
    }
    for (; i < count; i++) {
        uint16_t one;
        memcpy(&one, stored + 2 * i, 2);
        to[i] = bytes[one];
    }
}

/* ---- The disk -------------------------------------------------------------------------------------------------- */

/* A row's bits moved by `step` columns to both sides, united with the row or intersected. The words beside the row
 * stay as they are. */
INLINE void widen(uint64_t *row, int32_t words, int32_t step, int erode) {
    uint64_t before = row[-1];
    for (int32_t i = 0; i < words; i++) {
        uint64_t word = row[i], up = word << step | before >> (WORD - step);
        uint64_t down = word >> step | row[i + 1] << (WORD - step);
        before = word;
        row[i] = erode ? word & up & down : word | up | down;
    }
}

/* `to` becomes `from` eroded or dilated by the disk; `from` is used up. Rows outside the image count as 0: they are
 * zeros in `from`. A step is never wider than what is there already and one more, or it would need bits from outside. */
STAGE void by_disk(uint64_t *restrict to, uint64_t *restrict from, const plan_t *plan, const scratch_t *s, int erode) {
    int32_t width = 0, line = s->line, radius = plan->disk_rows / 2;
    int64_t all = (int64_t)line * plan->rows - 2;
    memset(to, erode ? 0xFF : 0, 8 * all);
    for (int32_t wanted = 0; wanted < WORD / 2; wanted++) {
        int wants = 0;
        for (int32_t i = 0; i < plan->disk_rows; i++) wants |= plan->half_widths[i] == wanted;
        if (!wants) continue;
        while (width < wanted) {
            int32_t step = smaller(wanted - width, width + 1);
            for (int32_t y = 0; y < plan->rows; y++) widen(from + (int64_t)y * line, s->words, step, erode);
            width += step;
        }
        for (int32_t i = 0; i < plan->disk_rows; i++) {
            if (plan->half_widths[i] != wanted) continue;
            const uint64_t *shifted = from + (int64_t)(i - radius) * line;
            if (erode)
                for (int64_t w = 0; w < all; w++) to[w] &= shifted[w];
            else
                for (int64_t w = 0; w < all; w++) to[w] |= shifted[w];
        }
    }
}

/* ---- Runs ------------------------------------------------------------------------------------------------------ */

/* Where a row's runs of ones begin and end (exclusive), by turns; how many such edges there are. */
INLINE int32_t edges_of(const uint64_t *row, uint64_t flip, const uint64_t *columns, int32_t words, uint16_t *edges) {
    int32_t count = 0;
    uint64_t carry = 0;
    for (int32_t i = 0; i < words; i++) {
        uint64_t word = (row[i] ^ flip) & columns[i], change = word ^ (word << 1 | carry);
        carry = word >> (WORD - 1);
        while (change) {
            edges[count++] = (uint16_t)(WORD * i + __builtin_ctzll(change));
            change &= change - 1;
        }
    }
    if (carry) edges[count++] = (uint16_t)(WORD * words);
    return count;
}

INLINE int32_t root_of(int32_t *parent, int32_t run) {
    while (parent[run] != run) run = parent[run] = parent[parent[run]];
    return run;
}

/* The root of a component is its first run in raster order. */
INLINE void unite(int32_t *parent, int32_t a, int32_t b) {
    a = root_of(parent, a);
    b = root_of(parent, b);
    parent[larger(a, b)] = smaller(a, b);
}

/* Unite the runs of a row with those above that they touch: with `diagonal` 1 at corners too, with 0 at sides alone. */
INLINE void link_rows(const scratch_t *s, int32_t above, int32_t here, int32_t end, int32_t diagonal) {
    const uint16_t *edges = s->edges;
    int32_t above_end = here;
    while (above < above_end && here < end) {
        int32_t above_stop = edges[2 * above + 1], stop = edges[2 * here + 1];
        if (edges[2 * above] < stop + diagonal && edges[2 * here] < above_stop + diagonal)
            unite(s->parent, above, here);
        if (above_stop < stop)
            above++;
        else
            here++;
    }
}

/* Every run's parent becomes its root. */
INLINE void flatten(int32_t *parent, int32_t count) {
    for (int32_t i = 0; i < count; i++) parent[i] = parent[parent[i]];
}

/* Set the bits start..stop - 1 of a row. */
INLINE void draw(uint64_t *row, int32_t start, int32_t stop) {
    int32_t first = start / WORD, last = (stop - 1) / WORD;
    uint64_t from = ~0ULL << start % WORD, to = ~0ULL >> (WORD - 1 - (stop - 1) % WORD);
    if (first == last) {
        row[first] |= from & to;
    } else {
        row[first] |= from;
        for (int32_t i = first + 1; i < last; i++) row[i] = ~0ULL;
        row[last] |= to;
    }
}

/* Draw the largest 8-connected component of `from` into `to`, which is all zeros; 0 where there is none. */
STAGE int largest_component(uint64_t *to, const uint64_t *from, const plan_t *plan, const scratch_t *s) {
    int32_t count = 0, above = 0, winner = 0;
    for (int32_t y = 0; y < plan->rows; y++) {
        int32_t here = count;
        count += edges_of(from + (int64_t)y * s->line, 0, s->columns, s->words, s->edges + 2 * (int64_t)here) / 2;
        for (int32_t i = here; i < count; i++) s->parent[i] = i;
        link_rows(s, above, here, count, 1);
        s->row[y] = above = here;
    }
    s->row[plan->rows] = count;
    if (count == 0) return 0;
    flatten(s->parent, count);
    memset(s->area, 0, 4 * (int64_t)count);
    for (int32_t i = 0; i < count; i++) s->area[s->parent[i]] += s->edges[2 * i + 1] - s->edges[2 * i];
    for (int32_t i = 1; i < count; i++)
        if (s->area[i] > s->area[winner]) winner = i;
    for (int32_t y = 0; y < plan->rows; y++)
        for (int32_t i = s->row[y]; i < s->row[y + 1]; i++)
            if (s->parent[i] == winner) draw(to + (int64_t)y * s->line, s->edges[2 * i], s->edges[2 * i + 1]);
    return 1;
}

/* Set those zeros of rows top..bottom that are not 4-connected to the outside; the other rows are all zeros. Run 0 is
 * the outside. */
STAGE void fill_holes(uint64_t *mask, int32_t top, int32_t bottom, const plan_t *plan, const scratch_t *s) {
    int32_t count = 1, above = 1;
    s->parent[0] = 0;
    for (int32_t y = top; y <= bottom; y++) {
        int32_t here = count;
        uint16_t *edges = s->edges + 2 * (int64_t)here;
        count += edges_of(mask + (int64_t)y * s->line, ~0ULL, s->columns, s->words, edges) / 2;
        for (int32_t i = here; i < count; i++) {
            int outside = y == top || y == bottom || s->edges[2 * i] == 0 || s->edges[2 * i + 1] == plan->columns;
            s->parent[i] = outside ? 0 : i;
        }
        link_rows(s, above, here, count, 0);
        s->row[y] = above = here;
    }
    flatten(s->parent, count);
    for (int32_t y = top; y <= bottom; y++)
        for (int32_t i = s->row[y], end = y < bottom ? s->row[y + 1] : count; i < end; i++)
            if (s->parent[i]) draw(mask + (int64_t)y * s->line, s->edges[2 * i], s->edges[2 * i + 1]);
}

/* ---- The mask -------------------------------------------------------------------------------------------------- */

/* First channel into `image`, what is above the threshold into `binary`; both are zeros right of the slice. */
STAGE void binarise(const uint8_t *stored, const plan_t *plan, const scratch_t *s) {
    for (int32_t y = 0; y < plan->rows; y++) {
        uint8_t *bytes = s->image + (int64_t)y * s->stride;
        uint64_t *bits = s->binary + (int64_t)y * s->line;
        look_up(bytes, stored + 2 * (int64_t)y * plan->columns, &plan->tables[0], plan->columns);
        memset(bytes + plan->columns, 0, s->stride - plan->columns);
        for (int32_t i = 0; i < s->words; i++) bits[i] = in_range(bytes + WORD * i, (uint8_t)(plan->threshold + 1), 255);
    }
}

/* Zeros before, beside and after the rows of a plane. */
INLINE void clear_border(uint64_t *plane, const plan_t *plan, const scratch_t *s) {
    int64_t pad = 8LL * s->pad * s->line, rows = plan->rows;
    memset(plane - 1 - pad / 8, 0, pad);
    memset(plane - 1 + rows * s->line, 0, pad);
    for (int64_t y = 0; y < rows; y++) plane[y * s->line - 1] = plane[y * s->line + s->words] = 0;
}

/* The head's mask into `shape`, its pixels and those of brain into `counts`. */
STAGE void find_head(const plan_t *plan, const scratch_t *s, counts_t *counts) {
    int64_t line = s->line, plane = line * plan->rows;
    counts->head_pixels = counts->brain_pixels = 0;
    clear_border(s->binary, plan, s);
    memcpy(s->grown - 1 - s->pad * line, s->binary - 1 - s->pad * line, 8 * (plane + 2 * s->pad * line));
    by_disk(s->shape, s->grown, plan, s, 1);
    memset(s->columns - 1, 0, 8 * line);
    if (plan->columns > 2 * plan->edge_columns)
        draw(s->columns, plan->edge_columns, plan->columns - plan->edge_columns);
    memset(s->grown - 1 - s->pad * line, 0, 8 * (plane + 2 * s->pad * line));
    int found = largest_component(s->grown, s->shape, plan, s);
    if (!found) return;
    by_disk(s->shape, s->grown, plan, s, 0);
    int32_t top = plan->rows, bottom = -1;
    for (int32_t y = 0; y < plan->rows; y++) {
        uint64_t any = 0, *row = s->shape + y * line;
        for (int32_t i = 0; i < s->words; i++) any |= row[i] &= s->binary[y * line + i];
        if (!any) continue;
        top = smaller(top, y);
        bottom = y;
    }
    memset(s->columns - 1, 0, 8 * line);
    draw(s->columns, 0, plan->columns);
    fill_holes(s->shape, top, bottom, plan, s);
    for (int32_t y = top; y <= bottom; y++)
        for (int32_t i = 0; i < s->words; i++) {
            uint64_t bits = s->shape[y * line + i];
            if (!bits) continue;
            counts->head_pixels += __builtin_popcountll(bits);
            if (plan->brain_low > plan->brain_high) continue;
            bits &= in_range(s->image + (int64_t)y * s->stride + WORD * i, (uint8_t)plan->brain_low,
                             (uint8_t)plan->brain_high);
            counts->brain_pixels += __builtin_popcountll(bits);
        }
}

/* ---- The resize ------------------------------------------------------------------------------------------------ */

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (bytes16_t){__VA_ARGS__})
#endif

/* 16 rows of 16 bytes, `from_stride` apart, become 16 columns, `to_stride` apart. */
INLINE void turn(uint8_t *to, int64_t to_stride, const uint8_t *from, int64_t from_stride) {
    bytes16_t a[TILE], b[TILE];
    for (int i = 0; i < TILE; i++) memcpy(&a[i], from + i * from_stride, TILE);
    for (int pass = 0; pass < 4; pass++) {
        for (int i = 0; i < TILE / 2; i++) {
            b[2 * i] = SHUFFLED(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            b[2 * i + 1] = SHUFFLED(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < TILE; i++) memcpy(to + i * to_stride, &a[i], TILE);
}

/* 16 neighbours of `count` lines, `stride` apart, weighed and rounded to bytes (Resample.c, clip8). */
INLINE bytes16_t weighed(const uint8_t *from, int64_t stride, const int32_t *weights, int32_t count) {
#if defined(__AVX2__)
    __m256i low = _mm256_set1_epi32(1 << (PRECISION_BITS - 1)), high = low;
    for (int32_t i = 0; i < count; i++, from += stride) {
        __m256i weight = _mm256_set1_epi32(weights[i]);
        __m256i first = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
        __m256i second = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + 8)));
        low = _mm256_add_epi32(low, _mm256_mullo_epi32(weight, first));
        high = _mm256_add_epi32(high, _mm256_mullo_epi32(weight, second));
    }
    low = _mm256_srai_epi32(low, PRECISION_BITS);
    high = _mm256_srai_epi32(high, PRECISION_BITS);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    __m128i more = _mm_packs_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    return (bytes16_t)_mm_packus_epi16(words, more);
#else
    sums_t sums[4];
    bytes16_t done;
    for (int j = 0; j < 4; j++) sums[j] = (sums_t){0} + (1 << (PRECISION_BITS - 1));
    for (int32_t i = 0; i < count; i++, from += stride) {
        bytes4_t four[4];
        memcpy(four, from, sizeof four);
        for (int j = 0; j < 4; j++) sums[j] += weights[i] * __builtin_convertvector(four[j], sums_t);
    }
    for (int j = 0; j < 4; j++) {
        sums[j] >>= PRECISION_BITS;
        sums[j] &= ~(sums[j] >> 31); /* bicubic's negative weights overshoot */
        sums[j] |= (255 - sums[j]) >> 31;
        bytes4_t four = __builtin_convertvector(sums[j], bytes4_t);
        memcpy((uint8_t *)&done + 4 * j, &four, 4);
    }
    return done;
#endif
}

/* Words first..last of up to 16 rows from y on, masked, into the strip; what is beyond the image stays as it is. */
STAGE void gather_strip(const uint8_t *stored, int32_t channel, int32_t y, int32_t rows, int32_t first, int32_t last,
                         const plan_t *plan, const scratch_t *s) {
    for (int32_t r = 0; r < rows; r++) {
        const uint8_t *from = s->image + (int64_t)(y + r) * s->stride;
        const uint64_t *bits = s->shape + (int64_t)(y + r) * s->line;
        uint8_t *to = s->strip + (int64_t)r * s->stride;
        if (channel) {
            int32_t x = first * WORD, count = smaller((last + 1) * WORD, plan->columns) - x;
            look_up(to + x, stored + 2 * ((int64_t)(y + r) * plan->columns + x), &plan->tables[channel], count);
            memset(to + x + count, 0, (last + 1) * WORD - x - count);
            from = to;
        }
        for (int32_t i = first; i <= last; i++)
            if (plan->device_mask)
                masked(to + WORD * i, from + WORD * i, bits[i]);
            else if (!channel)
                memcpy(to + WORD * i, from + WORD * i, WORD);
    }
}

/* The horizontal pass of up to 16 rows from y on, into `narrow`; 0 where they are all zeros, and nothing is written. */
STAGE int narrow_strip(const uint8_t *stored, int32_t channel, int32_t y, int32_t rows, uint8_t *narrow,
                        const plan_t *plan, const scratch_t *s) {
    const axis_t *axis = &plan->horizontal;
    int32_t first = s->words, last = -1;
    for (int32_t i = 0; i < s->words; i++) {
        uint64_t any = !plan->device_mask;
        for (int32_t r = 0; r < rows; r++) any |= s->shape[(int64_t)(y + r) * s->line + i];
        if (!any) continue;
        first = smaller(first, i);
        last = i;
    }
    if (last < 0) return 0;
    gather_strip(stored, channel, y, rows, first, last, plan, s);
    int32_t left = first * WORD, right = (last + 1) * WORD, margin = TILE * axis->width;
    for (int32_t x = left; x < right; x += TILE) turn(s->tile + (int64_t)TILE * x, TILE, s->strip + x, s->stride);
    memset(s->tile + (int64_t)TILE * left - margin, 0, margin);
    memset(s->tile + (int64_t)TILE * right, 0, margin);
    for (int32_t i = 0; i < axis->length; i++) {
        bytes16_t sums = {0};
        int32_t start = axis->start[i], count = axis->count[i];
        if (start < right && start + count > left)
            sums = weighed(s->tile + (int64_t)TILE * start, TILE, axis->weights + (int64_t)axis->width * i, count);
        memcpy(s->sums + (int64_t)TILE * i, &sums, TILE);
    }
    for (int32_t i = 0; i < s->narrow_stride; i += TILE)
        turn(narrow + i, s->narrow_stride, s->sums + (int64_t)TILE * i, TILE);
    return 1;
}

/* One channel's bytes: (vertical.length, horizontal.length), C-contiguous. */
STAGE void resize(const uint8_t *stored, int32_t channel, uint8_t *out, const plan_t *plan, const scratch_t *s) {
    const axis_t *axis = &plan->vertical;
    int32_t top = plan->rows, bottom = 0, length = plan->horizontal.length;
    for (int32_t i = 0; i < axis->length; i++) {
        top = smaller(top, axis->start[i]);
        bottom = larger(bottom, axis->start[i] + axis->count[i]);
    }
    for (int32_t y = top; y < bottom; y += TILE) {
        uint8_t *narrow = s->narrow + (int64_t)(y - top) * s->narrow_stride;
        int some = narrow_strip(stored, channel, y, smaller(TILE, bottom - y), narrow, plan, s);
        if (!some) memset(narrow, 0, (int64_t)TILE * s->narrow_stride);
        memset(s->blank + y - top, !some, TILE);
    }
    for (int32_t i = 0; i < axis->length; i++, out += length) {
        int32_t start = axis->start[i] - top, count = axis->count[i], blank = 1;
        for (int32_t r = start; r < start + count; r++) blank &= s->blank[r];
        if (blank) {
            memset(out, 0, length);
            continue;
        }
        const int32_t *weights = axis->weights + (int64_t)axis->width * i;
        for (int32_t x = 0; x < length; x += TILE) {
            const uint8_t *from = s->narrow + (int64_t)start * s->narrow_stride + x;
            bytes16_t sums = weighed(from, s->narrow_stride, weights, count);
            memcpy(out + x, &sums, smaller(TILE, length - x));
        }
    }
}

/* ---- What is called -------------------------------------------------------------------------------------------- */

#define EXPORT __attribute__((visibility("default")))
#if defined(DTVIT_AVX2_ALONE)
#define PREPARE dtvit_prepare_avx2
#else
#define PREPARE dtvit_prepare
#endif

/* One slice: (rows, columns) patterns of 16 bits to (channels, vertical.length, horizontal.length) bytes, and its counts. */
EXPORT void PREPARE(const plan_t *plan, const uint8_t *stored, uint8_t *out, uint8_t *memory, counts_t *counts) {
    scratch_t scratch;
    layout(&scratch, plan, memory);
    binarise(stored, plan, &scratch);
    find_head(plan, &scratch, counts);
    int64_t channel = (int64_t)plan->vertical.length * plan->horizontal.length;
    if (counts->head_pixels == 0) {
        memset(out, 0, plan->channels * channel);
        return;
    }
    for (int32_t i = 0; i < plan->channels; i++) resize(stored, i, out + i * channel, plan, &scratch);
}

#if !defined(DTVIT_AVX2_ALONE)
/* The sha256 of this file: a library of another one is refused. */
EXPORT const char dtvit_source[] = DTVIT_SOURCE_DIGEST;

/* Whether this processor and this system run `dtvit_prepare_avx2`. Asked once: a virtual machine answers cpuid slowly. */
EXPORT int32_t dtvit_has_avx2(void) {
#if defined(__x86_64__) && defined(DTVIT_WITH_AVX2)
    uint32_t a, b, c, d, saved, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const uint32_t wanted = bit_POPCNT | bit_OSXSAVE | bit_AVX;
    if ((c & wanted) != wanted) return 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
    if ((saved & 6) != 6) return 0; /* the system keeps the wide registers */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2) && (b & bit_BMI);
#else
    return 0;
#endif
}

/* Bytes of scratch that a plan needs; it is fastest where it begins at a multiple of 64. */
EXPORT int64_t dtvit_scratch_bytes(const plan_t *plan) {
    scratch_t scratch;
    layout(&scratch, plan, 0);
    return scratch.bytes;
}
#endif
