// Kernels for XLA's CPU backend, called through XLA's foreign function interface: convolutions with small square kernels,
// transposed ones, the gradients of both, and instance normalisation with a leaky rectifier. Maps are float32, channels
// last [n, h, w, c]; the channels that a kernel writes are a multiple of 16. Sums have the same order for any number of
// threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

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

// Floats that stay in the first-level and in the second-level cache of a core while they are read repeatedly.
constexpr int64_t kFirstLevel = 4096, kSecondLevel = 65536;

inline Vector Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
inline Vector Rectify(Vector v, float slope) { return v >= 0 ? v : v * slope; }

struct Shape {
  int64_t n, h, w, c;
  explicit Shape(ffi::Span<const int64_t> s) : n(s[0]), h(s[1]), w(s[2]), c(s[3]) {}
};

// Calls task(0) to task(count - 1) on this thread and on those of the pool that are free; returns when all are done.
// Threads that start later than that find no task left.
void Parallel(ffi::ThreadPool pool, int64_t count, std::function<void(int64_t)> task) {
  struct State {
    std::function<void(int64_t)> task;
    int64_t count;
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;

    void Work() {
      for (int64_t i = next++; i < count; i = next++) {
        task(i);
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
}

// ---------------------------------------------------------------------------------------------------- convolution

// A square kernel with `size` taps a side, `stride` and `padding` zeros around the larger map. "from" is the map that is
// read and "to" the one that is written; transposed, the smaller map is read and the larger one written.
struct Window {
  int64_t size, stride, padding;
};

// A pixel that is read for the pixel (r, s) of a phase: row r * step + row of the map that is read, and likewise columns.
struct Tap {
  int64_t row, col, index;  // the index is that of the kernel's tap
};

// Output pixels (out_step * r + row, out_step * s + col), for all r and s: they see the same taps.
struct Phase {
  int64_t row, col;
  std::vector<Tap> taps;
};

std::vector<Phase> Phases(Window k, bool transposed) {
  std::vector<Phase> phases;
  int64_t steps = transposed ? k.stride : 1;
  for (int64_t row = 0; row < steps; ++row)
    for (int64_t col = 0; col < steps; ++col) {
      Phase phase{row, col, {}};
      for (int64_t i = 0; i < k.size; ++i)
        for (int64_t j = 0; j < k.size; ++j) {
          int64_t y = row + k.padding - i, x = col + k.padding - j;
          if (!transposed) {
            phase.taps.push_back({-y, -x, i * k.size + j});
          } else if (y % k.stride == 0 && x % k.stride == 0) {
            phase.taps.push_back({y / k.stride, x / k.stride, i * k.size + j});
          }
        }
      phases.push_back(std::move(phase));
    }
  return phases;
}

// The weights of the taps as [c_out / width, taps, c_in, width], in the order in which `Pixels` reads them.
// kernel is [taps, c_in, c_out], or [taps, c_out, c_in] if transposed.
std::vector<float> Pack(ffi::ThreadPool pool, const float* kernel, const std::vector<Tap>& taps, int64_t c_in,
                        int64_t c_out, int64_t width, bool transposed) {
  int64_t num = taps.size();
  std::vector<float> packed(num * c_in * c_out);
  Parallel(pool, c_out / width, [&, kernel](int64_t block) {
    for (int64_t t = 0; t < num; ++t) {
      const float* k = kernel + taps[t].index * c_in * c_out;
      float* p = &packed[(block * num + t) * c_in * width];
      if (transposed) {
        for (int64_t d = 0; d < width; ++d)
          for (int64_t c = 0; c < c_in; ++c) p[c * width + d] = k[(block * width + d) * c_in + c];
      } else {
        for (int64_t c = 0; c < c_in; ++c) std::copy_n(k + c * c_out + block * width, width, p + c * width);
      }
    }
  });
  return packed;
}

// P output pixels with V registers of channels each, `out_step` floats apart, of which the first `valid` are stored.
// `x` points to the pixel that the first of them would see through a tap at (0, 0), and `offsets` from there to the taps.
template <int P, int V, int Step>
void Pixels(const float* x, const std::vector<int64_t>& offsets, int64_t c_in, const float* packed, float* out,
            int64_t out_step, int64_t valid) {
  Vector sum[P][V] = {};
  for (int64_t offset : offsets) {
    const float* a = x + offset;
    for (int64_t c = 0; c < c_in; ++c, packed += V * kLanes) {
      Vector k[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) k[v] = Load(packed + v * kLanes);
#pragma GCC unroll 32
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[p][v] += a[p * Step * c_in + c] * k[v];
    }
  }
  auto store = [&](int64_t p) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) Store(out + p * out_step + v * kLanes, sum[p][v]);
  };
  if (valid >= P) {
#pragma GCC unroll 32
    for (int p = 0; p < P; ++p) store(p);
  } else {
    for (int64_t p = 0; p < valid; ++p) store(p);
  }
}

// One phase of a convolution. A task copies the rows that it reads into a tile with zeros around them, so that no window
// has to know of the edges.
template <int P, int V, int Step>
void ConvolvePhase(ffi::ThreadPool pool, const float* x, Shape from, const float* packed, const Phase& phase, float* y,
                   Shape to, int64_t out_step) {
  int64_t c = from.c, h = to.h / out_step, w = to.w / out_step;
  int64_t top = 0, left = 0, bottom = 0, right = 0;  // the extent of the taps
  for (const Tap& tap : phase.taps) {
    top = std::min(top, tap.row), bottom = std::max(bottom, tap.row);
    left = std::min(left, tap.col), right = std::max(right, tap.col);
  }
  int64_t width = ((w + P - 1) / P * P - 1) * Step + 1 + right - left;
  std::vector<int64_t> offsets;
  for (const Tap& tap : phase.taps) offsets.push_back(((tap.row - top) * width + tap.col - left) * c);
  int64_t rows = std::clamp<int64_t>(kSecondLevel / 2 / (width * c * Step), 1, h), tiles = (h + rows - 1) / rows;
  Parallel(pool, to.n * tiles, [=, &phase](int64_t task) {
    int64_t image = task / tiles, first = task % tiles * rows, last = std::min(h, first + rows);
    int64_t height = (last - 1 - first) * Step + 1 + bottom - top;
    std::vector<float> tile(height * width * c);
    for (int64_t i = 0; i < height; ++i) {
      int64_t row = first * Step + top + i;
      if (row < 0 || row >= from.h) continue;
      std::copy_n(x + (image * from.h + row) * from.w * c, std::min(from.w, width + left) * c,
                  &tile[(i * width - left) * c]);
    }
    int64_t num = phase.taps.size();
    for (int64_t d = 0; d < to.c; d += V * kLanes)
      for (int64_t row = first; row < last; ++row) {
        float* out = y + ((image * to.h + row * out_step + phase.row) * to.w + phase.col) * to.c + d;
        for (int64_t col = 0; col < w; col += P)
          Pixels<P, V, Step>(&tile[((row - first) * width + col) * Step * c], offsets, c, packed + d * num * c,
                             out + col * out_step * to.c, out_step * to.c, w - col);
      }
  });
}

// y[r, s] = sum of x[stride r + i - padding, stride s + j - padding] kernel[i, j], or its transpose, which takes the
// gradient of y to that of x.
ffi::Error Convolve(ffi::ThreadPool pool, Floats x, Floats kernel, int64_t stride, int64_t padding, bool transposed,
                    Result y) {
  Shape from(x.dimensions()), to(y->dimensions());
  Window window{kernel.dimensions()[0], stride, padding};
  int64_t step = transposed ? 1 : stride, out_step = transposed ? stride : 1;
  bool wide = to.c % (2 * kLanes) == 0;
  auto* convolve = step == 1 ? (wide ? ConvolvePhase<8, 2, 1> : ConvolvePhase<16, 1, 1>)
                             : (wide ? ConvolvePhase<8, 2, 2> : ConvolvePhase<16, 1, 2>);
  for (const Phase& phase : Phases(window, transposed)) {
    auto packed =
        Pack(pool, kernel.typed_data(), phase.taps, from.c, to.c, (wide ? 2 : 1) * kLanes, transposed);
    convolve(pool, x.typed_data(), from, packed.data(), phase, y->typed_data(), to, out_step);
  }
  return ffi::Error::Success();
}

// Adds to out[taps, C of c_in, V registers of c_out] what rows `first` to `last` of the smaller map g give, the rows of
// all images being after each other.
template <int C, int V>
void AddTaps(const float* x, Shape from, const float* g, Shape to, Window k, int64_t first, int64_t last, float* out) {
  for (int64_t i = 0; i < k.size; ++i)
    for (int64_t j = 0; j < k.size; ++j, out += from.c * to.c) {
      Vector sum[C][V] = {};
      // columns whose window has its tap j inside the image
      int64_t begin = (std::max<int64_t>(0, k.padding - j) + k.stride - 1) / k.stride;
      int64_t end = std::min(to.w, (from.w - 1 + k.padding - j) / k.stride + 1);
      for (int64_t r = first; r < last; ++r) {
        int64_t row = r % to.h * k.stride + i - k.padding;
        if (row < 0 || row >= from.h) continue;
        const float* a = x + ((r / to.h * from.h + row) * from.w + begin * k.stride + j - k.padding) * from.c;
        const float* b = g + (r * to.w + begin) * to.c;
        for (int64_t col = begin; col < end; ++col, a += k.stride * from.c, b += to.c) {
          Vector d[V];
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) d[v] = Load(b + v * kLanes);
#pragma GCC unroll 32
          for (int c = 0; c < C; ++c)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[c][v] += a[c] * d[v];
        }
      }
      for (int64_t c = 0; c < C; ++c)
        for (int64_t v = 0; v < V; ++v) {
          float* o = out + c * to.c + v * kLanes;
          Store(o, Load(o) + sum[c][v]);
        }
    }
}

template <int V>
void SumTaps(ffi::ThreadPool pool, const float* x, Shape from, const float* g, Shape to, Window window, float* out) {
  constexpr int64_t kChannels = V == 1 ? 16 : 8, kOutputs = V * kLanes;
  int64_t c_blocks = (from.c + kChannels - 1) / kChannels, blocks = c_blocks * (to.c / kOutputs);
  int64_t size = window.size * window.size * from.c * to.c, total = to.n * to.h;
  // Few blocks of channels: the rows are divided too, each part with sums of its own.
  int64_t parts = std::clamp<int64_t>(16 / blocks, 1, total);
  int64_t rows = std::max<int64_t>(1, kSecondLevel / (to.w * 2 * kOutputs));  // read once for each tap
  std::fill_n(out, size, 0.0f);
  std::vector<float> sums((parts - 1) * size);  // of all parts but the first
  Parallel(pool, blocks * parts, [&](int64_t task) {
    int64_t part = task / blocks, c_first = task % c_blocks * kChannels, d = task % blocks / c_blocks * kOutputs;
    int64_t c_last = std::min(from.c, c_first + kChannels), end = total * (part + 1) / parts;
    for (int64_t first = total * part / parts; first < end; first += rows) {
      auto add = [&](auto channels, int64_t c) {
        AddTaps<decltype(channels)::value, V>(x + c, from, g + d, to, window, first, std::min(first + rows, end),
                                              (part == 0 ? out : &sums[(part - 1) * size]) + c * to.c + d);
      };
      if (c_last - c_first == kChannels) {
        add(std::integral_constant<int, kChannels>{}, c_first);
      } else {
        for (int64_t c = c_first; c < c_last; ++c) add(std::integral_constant<int, 1>{}, c);
      }
    }
  });
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < size; ++i) out[i] += sums[(part - 1) * size + i];
}

// Gradient of the kernel: sum over pixels of x[stride r + i - padding, stride s + j - padding, c] g[r, s, d].
ffi::Error ConvolveKernelGradient(ffi::ThreadPool pool, Floats x, Floats g, int64_t stride, int64_t padding,
                                  Result out) {
  Shape from(x.dimensions()), to(g.dimensions());
  auto* sum = to.c % (2 * kLanes) == 0 ? SumTaps<2> : SumTaps<1>;
  sum(pool, x.typed_data(), from, g.typed_data(), to, {out->dimensions()[0], stride, padding}, out->typed_data());
  return ffi::Error::Success();
}

// -------------------------------------------------------------------------------------------------- normalisation

// Pixels of all images in blocks that stay in the first-level cache, and the blocks of an image in parts, one a task.
struct Blocks {
  int64_t n, c, pixels, size, per_image, parts;

  explicit Blocks(Shape s)
      : n(s.n), c(s.c), pixels(s.h * s.w), size(std::clamp<int64_t>(kFirstLevel / c, 1, pixels)),
        per_image((pixels + size - 1) / size), parts(std::min<int64_t>(per_image, 8)) {}

  int64_t Count(int64_t block) const { return std::min(size, pixels - block * size); }

  // Calls visit(image, part, block, first pixel) for each block.
  template <typename F>
  void ForEach(ffi::ThreadPool pool, F visit) const {
    Parallel(pool, n * parts, [=, *this](int64_t task) {
      int64_t image = task / parts, part = task % parts;
      for (int64_t block = per_image * part / parts; block < per_image * (part + 1) / parts; ++block)
        visit(image, part, block, image * pixels + block * size);
    });
  }
};

// Mean and inverse standard deviation [n, c]. The sums of squares are about the mean of each block, which keeps the
// variance exact where the mean is large (Chan et al., "Updating Formulae and a Pairwise Algorithm", 1979).
void Statistics(ffi::ThreadPool pool, Blocks blocks, const float* x, float epsilon, float* mean, float* inverse) {
  int64_t c = blocks.c;
  std::vector<float> sums(blocks.n * blocks.per_image * c), squares(sums.size());
  blocks.ForEach(pool, [&](int64_t image, int64_t, int64_t block, int64_t first) {
    int64_t count = blocks.Count(block), at = (image * blocks.per_image + block) * c;
    for (int64_t k = 0; k < c; k += kLanes) {
      const float* a = x + first * c + k;
      Vector sum[4] = {}, square[4] = {};  // independent sums hide the latency of an addition
      for (int64_t q = 0; q < count; ++q) sum[q % 4] += Load(a + q * c);
      Vector total = (sum[0] + sum[1]) + (sum[2] + sum[3]), center = total / static_cast<float>(count);
      for (int64_t q = 0; q < count; ++q) {
        Vector d = Load(a + q * c) - center;
        square[q % 4] += d * d;
      }
      Store(&sums[at + k], total);
      Store(&squares[at + k], (square[0] + square[1]) + (square[2] + square[3]));
    }
  });
  for (int64_t image = 0; image < blocks.n; ++image)
    for (int64_t k = 0; k < c; ++k) {
      auto at = [&](int64_t block) { return (image * blocks.per_image + block) * c + k; };
      double sum = 0, square = 0;
      for (int64_t block = 0; block < blocks.per_image; ++block) sum += sums[at(block)];
      double center = sum / blocks.pixels;
      for (int64_t block = 0; block < blocks.per_image; ++block) {
        double count = blocks.Count(block), offset = sums[at(block)] / count - center;
        square += squares[at(block)] + count * offset * offset;
      }
      mean[image * c + k] = center;
      inverse[image * c + k] = 1 / std::sqrt(square / blocks.pixels + epsilon);
    }
}

// y = rectified (x - mean) inverse scale + bias, the statistics [n, c] being those of each channel of each image.
ffi::Error Normalize(ffi::ThreadPool pool, Floats x, Floats scale, Floats bias, float epsilon, float slope, Result y,
                     Result mean, Result inverse) {
  Blocks blocks{Shape(x.dimensions())};
  const float *x_ = x.typed_data(), *scale_ = scale.typed_data(), *bias_ = bias.typed_data();
  float *y_ = y->typed_data(), *mean_ = mean->typed_data(), *inverse_ = inverse->typed_data();
  int64_t c = blocks.c;
  Statistics(pool, blocks, x_, epsilon, mean_, inverse_);
  blocks.ForEach(pool, [=](int64_t image, int64_t, int64_t block, int64_t first) {
    for (int64_t k = 0; k < c; k += kLanes) {
      Vector center = Load(mean_ + image * c + k), offset = Load(bias_ + k);
      Vector factor = Load(inverse_ + image * c + k) * Load(scale_ + k);
      for (int64_t q = first; q < first + blocks.Count(block); ++q)
        Store(y_ + q * c + k, Rectify((Load(x_ + q * c + k) - center) * factor + offset, slope));
    }
  });
  return ffi::Error::Success();
}

// Gradients of the input, and of scale and bias for each image [n, c], for the gradient g of the result.
ffi::Error NormalizeGradient(ffi::ThreadPool pool, Floats x, Floats scale, Floats bias, Floats mean, Floats inverse,
                             Floats g, float slope, Result dx, Result dscale, Result dbias) {
  Blocks blocks{Shape(x.dimensions())};
  const float *x_ = x.typed_data(), *g_ = g.typed_data(), *scale_ = scale.typed_data(), *bias_ = bias.typed_data();
  const float *mean_ = mean.typed_data(), *inverse_ = inverse.typed_data();
  float *dx_ = dx->typed_data(), *dscale_ = dscale->typed_data(), *dbias_ = dbias->typed_data();
  int64_t c = blocks.c, parts = blocks.parts;

  // Calls visit(pixel, centred, gradient before the rectifier) for the pixels of a block and one register of channels.
  auto each = [=](int64_t image, int64_t block, int64_t first, int64_t k, auto visit) {
    Vector center = Load(mean_ + image * c + k), offset = Load(bias_ + k);
    Vector factor = Load(inverse_ + image * c + k) * Load(scale_ + k);
    for (int64_t q = first; q < first + blocks.Count(block); ++q) {
      Vector centred = Load(x_ + q * c + k) - center, d = Load(g_ + q * c + k);
      visit(q, centred, centred * factor + offset >= 0 ? d : d * slope);
    }
  };

  std::vector<float> sums(blocks.n * parts * c), products(sums.size());
  blocks.ForEach(pool, [&](int64_t image, int64_t part, int64_t block, int64_t first) {
    for (int64_t k = 0; k < c; k += kLanes) {
      Vector sum = {}, product = {};
      each(image, block, first, k, [&](int64_t, Vector centred, Vector d) {
        sum += d;
        product += d * centred;
      });
      float *s = &sums[(image * parts + part) * c + k], *p = &products[(image * parts + part) * c + k];
      Store(s, Load(s) + sum);
      Store(p, Load(p) + product);
    }
  });
  for (int64_t image = 0; image < blocks.n; ++image)
    for (int64_t k = 0; k < c; ++k) {
      double sum = 0, product = 0;
      for (int64_t part = 0; part < parts; ++part) {
        sum += sums[(image * parts + part) * c + k];
        product += products[(image * parts + part) * c + k];
      }
      dbias_[image * c + k] = sum;
      dscale_[image * c + k] = product * inverse_[image * c + k];
    }
  blocks.ForEach(pool, [=](int64_t image, int64_t, int64_t block, int64_t first) {
    float count = blocks.pixels;
    for (int64_t k = 0; k < c; k += kLanes) {
      Vector inverse = Load(inverse_ + image * c + k), factor = inverse * Load(scale_ + k);
      Vector offset = Load(dbias_ + image * c + k) / count, slope = Load(dscale_ + image * c + k) * inverse / count;
      each(image, block, first, k, [&](int64_t q, Vector centred, Vector d) {
        Store(dx_ + q * c + k, factor * (d - offset - slope * centred));
      });
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve, Convolve,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding").Attr<bool>("transposed").Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve_kernel_gradient, ConvolveKernelGradient,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding").Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(normalize, Normalize,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Attr<float>("epsilon").Attr<float>("slope").Ret<Floats>().Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(normalize_gradient, NormalizeGradient,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Floats>().Arg<Floats>().Attr<float>("slope").Ret<Floats>().Ret<Floats>()
                                  .Ret<Floats>());
