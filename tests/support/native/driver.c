/* Runs `native.c` over the slices of a file: under sanitizers, and for processors that only an emulator has.
 *
 * `harness.py` writes the file and says what is in it. Every array is an allocation of its own, so that a sanitizer sees
 * each step beyond. Usage: driver INPUT OUTPUT
 */
#include "native.c"

#include <stdio.h>
#include <stdlib.h>

static FILE *input, *output;

static void *taken(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory || fread(memory, 1, bytes, input) != bytes) exit(2);
    return memory;
}

static axis_t axis(void) {
    int32_t *shape = taken(8);
    axis_t axis = {.length = shape[0], .width = shape[1]};
    axis.start = taken(4 * (size_t)axis.length);
    axis.count = taken(4 * (size_t)axis.length);
    axis.weights = taken(4 * (size_t)axis.length * axis.width);
    free(shape);
    return axis;
}

static void drop(const void *memory) { free((void *)memory); }

int main(int count, char **arguments) {
    if (count != 3 || !(input = fopen(arguments[1], "rb")) || !(output = fopen(arguments[2], "wb"))) return 2;
    for (int32_t *slices = taken(4); (*slices)--;) {
        plan_t *plan = taken(sizeof *plan);
        for (int32_t i = 0; i < plan->channels; i++) plan->tables[i].bytes = taken(1 << 16);
        plan->horizontal = axis();
        plan->vertical = axis();
        uint8_t *stored = taken(2 * (size_t)plan->rows * plan->columns);
        size_t bytes = (size_t)plan->channels * plan->vertical.length * plan->horizontal.length;
        uint8_t *out = malloc(bytes), *memory = malloc(dtvit_scratch_bytes(plan));
        counts_t *counts = malloc(sizeof *counts);
        dtvit_prepare(plan, stored, out, memory, counts);
        if (fwrite(counts, sizeof *counts, 1, output) != 1 || fwrite(out, 1, bytes, output) != bytes) return 2;
        for (int32_t i = 0; i < plan->channels; i++) drop(plan->tables[i].bytes);
        for (const axis_t *a = &plan->horizontal; a <= &plan->vertical; a++)
            drop(a->start), drop(a->count), drop(a->weights);
        drop(plan), drop(stored), drop(out), drop(memory), drop(counts);
    }
    return fclose(output) ? 2 : 0;
}
