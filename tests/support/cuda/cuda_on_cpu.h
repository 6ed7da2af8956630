// CUDA's built-ins on a CPU, as far as preprocess.cu uses them: a block's threads are coroutines, run one after the other
// in an order drawn anew from a seed for every stretch between two barriers, and interrupted at random before atomics.
// What depends on the order of threads gives another result with another seed; a barrier that only some threads reach is
// an error.

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#define __global__
#define __device__
#define SHARED_WORDS(name) unsigned int* name = cuda_on_cpu::shared.data()

using std::max;
using std::min;

struct Dimension {
  unsigned int x;
};
static Dimension threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

enum State { READY, AT_BARRIER, DONE };

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  State state;
};

static std::vector<unsigned int> shared;
static std::vector<Thread> threads;
static std::mt19937 random;
static ucontext_t scheduler;
static unsigned int current;

inline void leave(State state) {
  threads[current].state = state;
  swapcontext(&threads[current].context, &scheduler);
}

inline void perhaps_others_first() {
  if (random() % 4 == 0) leave(READY);
}

// Runs one block; false where some threads wait for others that have ended.
template <typename Call>
bool run_block(const Call& call) {
  static const Call* body;
  body = &call;
  for (unsigned int i = 0; i < threads.size(); i++) {
    Thread& thread = threads[i];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = nullptr;
    thread.state = READY;
    makecontext(&thread.context, +[] { (*body)(); leave(DONE); }, 0);
  }
  std::vector<unsigned int> order(threads.size());
  for (unsigned int i = 0; i < order.size(); i++) order[i] = i;
  for (;;) {
    std::shuffle(order.begin(), order.end(), random);
    bool ran = false;
    for (unsigned int i : order)
      if (threads[i].state == READY) {
        ran = true;
        threadIdx.x = current = i;
        swapcontext(&scheduler, &threads[i].context);
      }
    if (ran) continue;
    const auto waiting = std::count_if(threads.begin(), threads.end(), [](auto& t) { return t.state == AT_BARRIER; });
    if (!waiting) return true;
    if (waiting != (long)threads.size()) return false;
    for (Thread& thread : threads) thread.state = READY;
  }
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::leave(cuda_on_cpu::AT_BARRIER); }
inline int __popc(unsigned int x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }

template <typename T, typename Change>
T atomically(T* place, const Change& change) {
  cuda_on_cpu::perhaps_others_first();
  // A thread that was interrupted goes on with its own index.
  const T before = *place;
  *place = change(before);
  return before;
}

template <typename T>
T atomicAdd(T* place, T value) {
  return atomically(place, [=](T x) { return T(x + value); });
}
template <typename T>
T atomicMin(T* place, T value) {
  return atomically(place, [=](T x) { return std::min(x, value); });
}
template <typename T>
T atomicMax(T* place, T value) {
  return atomically(place, [=](T x) { return std::max(x, value); });
}
template <typename T>
T atomicOr(T* place, T value) {
  return atomically(place, [=](T x) { return T(x | value); });
}
