// A CUDA driver library on the CPU, so that the real pycuda can be run without a GPU: as much of libcuda.so.1 as
// dtvit_edge asks for. Everything happens at once; streams and events are names. Modules are all preprocess.cu. There
// are two devices, each with its own primary context. A context is current to the thread that pushed it, and whoever
// calls without one is told CUDA_ERROR_INVALID_CONTEXT. What is made is counted until it is destroyed: `standin_left`.

#include "launch.cpp"

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

typedef unsigned long long Pointer;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900 };

static thread_local std::vector<int> current_contexts;  // devices
static std::atomic<int> left{0};
static std::atomic<unsigned> used_devices{0};
static std::mutex lock;
static std::map<Pointer, size_t> device_memory;

#define NEEDS_CONTEXT \
  if (current_contexts.empty()) return INVALID_CONTEXT

extern "C" {

int cuInit(unsigned) { return OK; }
int cuDriverGetVersion(int* version) { return *version = 13000, OK; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < 2 ? OK : INVALID_DEVICE; }
int cuDeviceGetCount(int* count) { return *count = 2, OK; }
int cuDeviceGetName(char* name, int length, int device) {
  return strncpy(name, device ? "Second stand-in" : "Stand-in", length), OK;
}
// Objects and memory that nobody has destroyed, and a bit for each device whose context was made.
int standin_left() { return left; }
unsigned standin_used_devices() { return used_devices; }
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

int cuDevicePrimaryCtxRetain(void** context, int device) {
  used_devices |= 1u << device;
  return *context = (void*)(size_t)(0x10 + device), left++, OK;
}
int cuDevicePrimaryCtxRelease_v2(int) { return left--, OK; }
int cuCtxPushCurrent_v2(void* context) { return current_contexts.push_back((int)(size_t)context - 0x10), OK; }
int cuCtxPopCurrent_v2(void** context) {
  NEEDS_CONTEXT;
  *context = (void*)(size_t)(0x10 + current_contexts.back());
  return current_contexts.pop_back(), OK;
}
int cuCtxGetDevice(int* device) {
  NEEDS_CONTEXT;
  return *device = current_contexts.back(), OK;
}

int cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
  NEEDS_CONTEXT;
  void* memory = malloc(bytes);
  memset(memory, 0xA5, bytes);
  std::lock_guard<std::mutex> guard(lock);
  device_memory[*pointer = (Pointer)memory] = bytes;
  return left++, OK;
}
int cuMemFree_v2(Pointer pointer) {
  NEEDS_CONTEXT;
  std::lock_guard<std::mutex> guard(lock);
  if (!device_memory.erase(pointer)) return INVALID_VALUE;
  return free((void*)pointer), left--, OK;
}
int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  NEEDS_CONTEXT;
  return memset(*pointer = malloc(bytes), 0xA5, bytes), left++, OK;
}
int cuMemFreeHost(void* pointer) {
  NEEDS_CONTEXT;
  return free(pointer), left--, OK;
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

int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void*) {
  NEEDS_CONTEXT;
  if (!is_device(to, bytes) || !is_device(from, bytes)) return INVALID_VALUE;
  return memcpy((void*)to, (void*)from, bytes), OK;
}

int cuStreamCreate(void** stream, unsigned flags) {
  NEEDS_CONTEXT;
  static int next = 0x100;
  return *stream = (void*)(size_t)next++, left++, flags == 1 ? OK : INVALID_VALUE;
}
int cuStreamDestroy_v2(void*) {
  NEEDS_CONTEXT;
  return left--, OK;
}
int cuStreamSynchronize(void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuStreamWaitEvent(void*, void*, unsigned) {
  NEEDS_CONTEXT;
  return OK;
}
int cuStreamBeginCapture_v2(void*, int) { return CAPTURE_UNSUPPORTED; }
int cuEventElapsedTime_v2(float* ms, void*, void*) { return *ms = 0.01f, OK; }
int cuGetExportTable(const void**, const void*) { return NOT_FOUND; }  // NVRTC asks for one
int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  NEEDS_CONTEXT;
  return *free_bytes = *total = (size_t)8 << 30, OK;
}
int cuEventCreate(void** event, unsigned) {
  NEEDS_CONTEXT;
  return *event = (void*)0x20, left++, OK;
}
int cuEventRecord(void*, void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuEventSynchronize(void*) {
  NEEDS_CONTEXT;
  return OK;
}
int cuEventDestroy_v2(void*) {
  NEEDS_CONTEXT;
  return left--, OK;
}

int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) {
  NEEDS_CONTEXT;
  return *module = (void*)0x30, left++, OK;
}
int cuModuleUnload(void*) {
  NEEDS_CONTEXT;
  return left--, OK;
}
// A function's handle is 0x40 and its place in the source.
int cuModuleGetFunction(void** function, void*, const char* name) {
  const char* const names[] = {"preprocess", "preprocess_binarise", "preprocess_mask", "preprocess_resize"};
  for (size_t i = 0; i < 4; i++)
    if (!strcmp(name, names[i])) return *function = (void*)(0x40 + i), OK;
  return INVALID_VALUE;
}
int cuFuncGetAttribute(int* value, int attribute, void*) { return *value = 1024, attribute == 0 ? OK : INVALID_VALUE; }
int cuFuncSetAttribute(void*, int attribute, int value) {
  return attribute == 8 && value <= 99 * 1024 ? OK : INVALID_VALUE;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
}
int cuFuncSetBlockShape(void*, int, int, int) { return OK; }

int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared,
                   void*, void**, void** extra) {
  NEEDS_CONTEXT;
  // CU_LAUNCH_PARAM_BUFFER_POINTER 1, CU_LAUNCH_PARAM_BUFFER_SIZE 2. The arguments as the C compiler lays them out.
  if (extra[0] != (void*)1 || extra[2] != (void*)2 || *(size_t*)extra[3] != sizeof(Arguments)) return INVALID_VALUE;
  return launch((int)((size_t)function - 0x40), (const Arguments*)extra[1], blocks, 32, shared, 1);
}

}  // extern "C"
