// What the kernels have in common. They are functions for XLA's CPU backend, called through XLA's foreign function
// interface. Maps are float32, channels last [n, h, w, c]; the channels that a kernel writes are a multiple of 16. Sums
// have the same order for any number of threads.

#ifndef CARDIOJAX_COMMON_H_
#define CARDIOJAX_COMMON_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace cardiojax {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

// Floats of a register.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// Channels are written in groups of so many.
constexpr int64_t kChannels = 16;

// Floats that stay in the first-level and in the second-level cache of a core while they are read repeatedly.
constexpr int64_t kFirstLevel = 4096, kSecondLevel = 65536;

inline Vector Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
inline Vector Rectify(Vector v, float slope) { return v >= 0 ? v : v * slope; }

// Adds to sum[i][v] the product of a[i * step] and the register v of b, for N floats and V registers.
template <int N, int V>
inline __attribute__((always_inline)) void AddProducts(Vector (&sum)[N][V], const float* a, int64_t step,
                                                       const float* b) {
  Vector registers[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) registers[v] = Load(b + v * kLanes);
#pragma GCC unroll 32
  for (int i = 0; i < N; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[i][v] += a[i * step] * registers[v];
}

// Sizes of a map [n, h, w, c].
struct Shape {
  int64_t n, h, w, c;
  explicit Shape(ffi::Span<const int64_t> s) : n(s[0]), h(s[1]), w(s[2]), c(s[3]) {}

  bool IsEmpty() const { return n * h * w * c == 0; }
};

// Calls task(0) to task(count - 1) on this thread and on those of the pool that are free; returns when all are done.
// Threads that start later than that find no task left. An exception of a task is thrown again here.
inline void Parallel(ffi::ThreadPool pool, int64_t count, std::function<void(int64_t)> task) {
  struct State {
    std::function<void(int64_t)> task;
    int64_t count;
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
    std::exception_ptr error;

    void Work() {
      for (int64_t i = next++; i < count; i = next++) {
        try {
          task(i);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          error = std::current_exception();
        }
        if (++done == count) {
          std::lock_guard<std::mutex> lock(mutex);
          all_done.notify_all();
        }
      }
    }
  };
  auto state = std::make_shared<State>();
  state->task = std::move(task);
  state->count = count;
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([state] { state->Work(); });
  state->Work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == count; });
  if (state->error) std::rethrow_exception(state->error);
}

inline ffi::Error Mismatch(const char* what) { return ffi::Error(ffi::ErrorCode::kInvalidArgument, what); }

}  // namespace cardiojax

#endif  // CARDIOJAX_COMMON_H_
