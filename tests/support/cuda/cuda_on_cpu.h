// CUDA's built-ins on a CPU, as far as preprocess.cu uses them: a block's threads are coroutines, run one after the other
// in an order drawn anew from a seed for every stretch between two barriers, and interrupted at random before atomics.
// What depends on the order of threads gives another result with another seed; a barrier that only some threads reach is
// an error, and so is a shuffle. Any barrier can be left out, to see that this is noticed. Reads that wait for an earlier read are counted: of each stretch between two barriers
// the most that one thread makes.

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define SHARED_WORDS(name) unsigned int* name = cuda_on_cpu::shared_words()
#define DEPENDENT_READS(count) cuda_on_cpu::reads[cuda_on_cpu::current] += count

using std::max;
using std::min;

struct Dimension {
  unsigned int x;
};
static Dimension threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};

namespace cuda_on_cpu {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

struct Thread {
  ucontext_t context;  // where it begins
  jmp_buf place;       // where it goes on: a jump is no system call, as a switch of contexts is
  std::vector<char> stack = std::vector<char>(1 << 16);
  State state;
  bool begun;
};

static std::vector<uint4> shared;
static std::vector<Thread> threads;
static std::vector<unsigned int> shuffled, reads;
static std::mt19937 random;
static jmp_buf scheduler;
static unsigned int current;
static int votes, vote;
static unsigned long long dependent_reads;

inline unsigned int* shared_words() { return &shared.data()->x; }

inline void leave(State state) {
  threads[current].state = state;
  if (!_setjmp(threads[current].place)) _longjmp(scheduler, 1);
}

// Runs a thread until it leaves.
__attribute__((noinline)) inline void resume(unsigned int thread) {
  threadIdx.x = current = thread;
  if (_setjmp(scheduler)) return;
  if (threads[thread].begun) _longjmp(threads[thread].place, 1);
  threads[thread].begun = true;
  setcontext(&threads[thread].context);
}

inline void perhaps_others_first() {
  if (random() % 4 == 0) leave(READY);
}

// Lets the warps go on whose threads have all reached a shuffle.
inline bool release_warps() {
  bool released = false;
  for (auto first = threads.begin(); first != threads.end();) {
    const auto last = threads.end() - first < 32 ? threads.end() : first + 32;
    if (std::all_of(first, last, [](auto& t) { return t.state == AT_SHUFFLE; })) {
      std::for_each(first, last, [](auto& t) { t.state = READY; });
      released = true;
    }
    first = last;
  }
  return released;
}

// Runs one block; false where some threads wait for others that have ended, or wait elsewhere.
template <typename Call>
bool run_block(const Call& call) {
  static const Call* body;
  body = &call;
  shuffled.assign(threads.size(), 0);
  reads.assign(threads.size(), 0);
  for (unsigned int i = 0; i < threads.size(); i++) {
    Thread& thread = threads[i];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = nullptr;
    thread.state = READY;
    thread.begun = false;
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
        resume(i);
      }
    if (ran || release_warps()) continue;
    dependent_reads += *std::max_element(reads.begin(), reads.end());
    std::fill(reads.begin(), reads.end(), 0);
    const auto in = [](State state) {
      return (size_t)std::count_if(threads.begin(), threads.end(), [=](auto& t) { return t.state == state; });
    };
    if (in(DONE) == threads.size()) return true;
    if (in(AT_BARRIER) != threads.size()) return false;
    vote = votes;
    votes = 0;
    for (Thread& thread : threads) thread.state = READY;
  }
}

static int skipped_barrier = -1;

inline void barrier(int number) {
  if (number != skipped_barrier) leave(AT_BARRIER);
}

inline int vote_at_barrier(int number, int predicate) {
  if (number == skipped_barrier) return predicate;
  votes |= predicate;
  barrier(number);
  return vote;
}

}  // namespace cuda_on_cpu

inline unsigned int __shfl_up_sync(unsigned int, unsigned int value, unsigned int distance) {
  using namespace cuda_on_cpu;
  const unsigned int own = current;
  shuffled[own] = value;
  leave(AT_SHUFFLE);
  const unsigned int result = own % 32 < distance ? value : shuffled[own - distance];
  leave(AT_SHUFFLE);  // nobody writes before all have read
  return result;
}
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
template <typename T>
T atomicAnd(T* place, T value) {
  return atomically(place, [=](T x) { return T(x & value); });
}

// Each barrier of the source has a number, so that it can be left out.
#define __syncthreads() cuda_on_cpu::barrier(__COUNTER__)
#define __syncthreads_or(predicate) cuda_on_cpu::vote_at_barrier(__COUNTER__, predicate)
