// preprocess.cu on a CPU, launched block by block; see cuda_on_cpu.h.

#define DTVIT_CUDA_ON_CPU
#include "preprocess.cu"

// 0, or 1 where a barrier was reached by some threads of a block only.
extern "C" int launch(const SliceInput* inputs, int count, const u16* stored, const u8* tables, const int* axes,
                      const Spec* spec, const Scratch* scratch, u8* out, HeadStats* stats, unsigned int blocks,
                      unsigned int threads, unsigned int shared_words, unsigned int seed) {
  cuda_on_cpu::random.seed(seed);
  cuda_on_cpu::threads.resize(threads);
  blockDim.x = threads;
  gridDim.x = blocks;
  for (unsigned int block = 0; block < blocks; block++) {
    blockIdx.x = block;
    cuda_on_cpu::shared.assign(shared_words, 0xA5A5A5A5u);
    const auto body = [&] { preprocess(inputs, count, stored, tables, axes, *spec, *scratch, out, stats); };
    if (!cuda_on_cpu::run_block(body)) return 1;
  }
  return 0;
}
