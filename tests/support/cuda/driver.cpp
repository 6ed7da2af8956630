// A CUDA driver library on the CPU, so that the real pycuda can be run without a GPU: as much of libcuda.so.1 as
// dtvit_edge asks for. Everything happens at once; streams and events are names. Modules are all preprocess.cu. A
// context is current to the thread that pushed it, and whoever calls without one is told CUDA_ERROR_INVALID_CONTEXT.

#include "launch.cpp"

#include <cstdlib>
#include <map>
#include <mutex>

typedef unsigned long long Pointer;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, CAPTURE_UNSUPPORTED = 900 };

static thread_local int current_contexts = 0;
static std::mutex lock;
static std::map<Pointer, size_t> device_memory;

#define NEEDS_CONTEXT \
  if (!current_contexts) return INVALID_CONTEXT

extern "C" {

int cuInit(unsigned) { return OK; }
int cuDriverGetVersion(int* version) { return *version = 13000, OK; }
int cuDeviceGet(int* device, int) { return *device = 0, OK; }
int cuDeviceGetCount(int* count) { return *count = 1, OK; }
int cuDeviceGetName(char* name, int length, int) { return strncpy(name, "Stand-in", length), OK; }
int cuDeviceComputeCapability(int* major, int* minor, int) { return *major = 8, *minor = 7, OK; }
int cuGetErrorString(int, const char** text) { return *text = "the stand-in says no", OK; }

int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: return *value = 2, OK;                      // MULTIPROCESSOR_COUNT
    case 18: return *value = getenv("INTEGRATED") != 0, OK;
    case 75: return *value = 8, OK;                      // COMPUTE_CAPABILITY_MAJOR
    case 76: return *value = 7, OK;                      // COMPUTE_CAPABILITY_MINOR
    case 97: return *value = 99 * 1024, OK;              // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
  }
  return INVALID_VALUE;
}

int cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)0x10, OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxPushCurrent_v2(void*) { return current_contexts++, OK; }
int cuCtxPopCurrent_v2(void** context) {
  NEEDS_CONTEXT;
  return *context = (void*)0x10, current_contexts--, OK;
}
int cuCtxGetDevice(int* device) {
  NEEDS_CONTEXT;
  return *device = 0, OK;
}

int cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
  NEEDS_CONTEXT;
  void* memory = malloc(bytes);
  memset(memory, 0xA5, bytes);
  std::lock_guard<std::mutex> guard(lock);
  device_memory[*pointer = (Pointer)memory] = bytes;
  return OK;
}
int cuMemFree_v2(Pointer pointer) {
  NEEDS_CONTEXT;
  std::lock_guard<std::mutex> guard(lock);
  if (!device_memory.erase(pointer)) return INVALID_VALUE;
  return free((void*)pointer), OK;
}
int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  NEEDS_CONTEXT;
  return memset(*pointer = malloc(bytes), 0xA5, bytes), OK;
}
int cuMemFreeHost(void* pointer) {
  NEEDS_CONTEXT;
  return free(pointer), OK;
}
int cuMemHostGetDevicePointer_v2(Pointer* pointer, void* host, unsigned) { return *pointer = (Pointer)host, OK; }

// Copies stay inside one allocation of the device.
static bool is_device(Pointer pointer, size_t bytes) {
  std::lock_guard<std::mutex> guard(lock);
  auto next = device_memory.upper_bound(pointer);
  if (next == device_memory.begin()) return false;
  --next;
  return pointer + bytes <= next->first + next->second;
}
int cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void*) {
  NEEDS_CONTEXT;
  if (!is_device(to, bytes)) return INVALID_VALUE;
  return memcpy((void*)to, from, bytes), OK;
}
int cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void*) {
  NEEDS_CONTEXT;
  if (!is_device(from, bytes)) return INVALID_VALUE;
  return memcpy(to, (void*)from, bytes), OK;
}

int cuStreamCreate(void** stream, unsigned flags) {
  NEEDS_CONTEXT;
  static int next = 0x100;
  return *stream = (void*)(size_t)next++, flags == 1 ? OK : INVALID_VALUE;
}
int cuStreamDestroy_v2(void*) { return OK; }
int cuStreamSynchronize(void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuStreamWaitEvent(void*, void*, unsigned) {
  NEEDS_CONTEXT;
  return OK;
}
int cuStreamBeginCapture_v2(void*, int) { return CAPTURE_UNSUPPORTED; }
int cuEventCreate(void** event, unsigned) {
  NEEDS_CONTEXT;
  return *event = (void*)0x20, OK;
}
int cuEventRecord(void*, void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuEventSynchronize(void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuEventDestroy_v2(void*) { return OK; }

int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) {
  NEEDS_CONTEXT;
  return *module = (void*)0x30, OK;
}
int cuModuleUnload(void*) { return OK; }
int cuModuleGetFunction(void** function, void*, const char* name) {
  return *function = (void*)0x40, strcmp(name, "preprocess") ? INVALID_VALUE : OK;
}
int cuFuncGetAttribute(int* value, int attribute, void*) { return *value = 1024, attribute == 0 ? OK : INVALID_VALUE; }
int cuFuncSetAttribute(void*, int attribute, int value) {
  return attribute == 8 && value <= 99 * 1024 ? OK : INVALID_VALUE;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
}
int cuFuncSetBlockShape(void*, int, int, int) { return OK; }

// The arguments as the C compiler lays them out: what the kernel of a GPU would find.
struct Arguments {
  const SliceInput* inputs;
  int count;
  const u16* stored;
  const u8* tables;
  const int* axes;
  Spec spec;
  Scratch scratch;
  u8* out;
  HeadStats* stats;
};

int cuLaunchKernel(void*, unsigned blocks, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared, void*,
                   void**, void** extra) {
  NEEDS_CONTEXT;
  // CU_LAUNCH_PARAM_BUFFER_POINTER 1, CU_LAUNCH_PARAM_BUFFER_SIZE 2
  if (extra[0] != (void*)1 || extra[2] != (void*)2 || *(size_t*)extra[3] != sizeof(Arguments)) return INVALID_VALUE;
  const Arguments& a = *(const Arguments*)extra[1];
  return launch(a.inputs, a.count, a.stored, a.tables, a.axes, &a.spec, &a.scratch, a.out, a.stats, blocks, 32,
                shared / 4, 1);
}

}  // extern "C"
