// preprocess.cu on a CPU, launched block by block in an order drawn from a seed; see cuda_on_cpu.h.

#define DTVIT_CUDA_ON_CPU
#include "preprocess.cu"

// 0, or 1 where a barrier was reached by some threads of a block only. `kernel` counts from 0 in the source's order.
extern "C" int launch(int kernel, const Arguments* arguments, unsigned int blocks, unsigned int threads,
                      unsigned int shared_bytes, unsigned int seed) {
  const auto kernels = {preprocess, preprocess_binarise, preprocess_mask, preprocess_resize};
  cuda_on_cpu::random.seed(seed);
  cuda_on_cpu::threads.resize(threads);
  blockDim.x = threads;
  gridDim.x = blocks;
  std::vector<unsigned int> order(blocks);
  for (unsigned int block = 0; block < blocks; block++) order[block] = block;
  std::shuffle(order.begin(), order.end(), cuda_on_cpu::random);
  for (unsigned int block : order) {
    blockIdx.x = block;
    cuda_on_cpu::shared.assign((shared_bytes + 15) / 16, uint4{0xA5A5A5A5u, 0xA5A5A5A5u, 0xA5A5A5A5u, 0xA5A5A5A5u});
    const auto body = [&] { kernels.begin()[kernel](*arguments); };
    if (!cuda_on_cpu::run_block(body)) return 1;
  }
  return 0;
}

// Counted since it was last asked; see cuda_on_cpu.h.
extern "C" unsigned long long dependent_reads() {
  const auto counted = cuda_on_cpu::dependent_reads;
  cuda_on_cpu::dependent_reads = 0;
  return counted;
}

// How many barriers the source has; launches leave out the one of that number from here on, -1 for none.
extern "C" int barriers() { return __COUNTER__; }
extern "C" void skip_barrier(int number) { cuda_on_cpu::skipped_barrier = number; }
