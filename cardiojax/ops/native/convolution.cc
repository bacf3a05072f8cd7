// Convolutions with small square kernels, transposed ones, and the gradients of both.

#include <type_traits>
#include <vector>

#include "common.h"

namespace cardiojax {
namespace {

// Sums that the rows of the maps are divided into at most: more than that, and adding them up takes the time gained.
constexpr int64_t kMostParts = 16;

// A square kernel with `size` taps a side, `stride` and `padding` zeros around the larger map. "from" is the map that is
// read and "to" the one that is written; transposed, the smaller map is read and the larger one written.
struct Window {
  int64_t size, stride, padding;

  // The convolution takes a map of the one shape to one of the other.
  bool Fits(Shape larger, Shape smaller) const {
    return (stride == 1 || stride == 2) && size == 2 * padding + (stride == 2 && padding == 0 ? 2 : 1) &&
           larger.n == smaller.n && larger.h == smaller.h * stride && larger.w == smaller.w * stride;
  }
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

std::vector<Phase> MakePhases(Window k, bool transposed) {
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

// The weights of the taps as [c_out / width, taps, c_in, width], in the order in which `ComputePixels` reads them.
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
// `offsets` are those of the pixels that the first of them sees through its taps, from `x`.
template <int P, int V, int Step>
void ComputePixels(const float* x, const std::vector<int64_t>& offsets, int64_t c_in, const float* packed, float* out,
                   int64_t out_step, int64_t valid) {
  Vector sum[P][V] = {};
  for (int64_t offset : offsets) {
    const float* a = x + offset;
    for (int64_t c = 0; c < c_in; ++c, packed += V * kLanes) AddProducts(sum, a + c, Step * c_in, packed);
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
          ComputePixels<P, V, Step>(&tile[((row - first) * width + col) * Step * c], offsets, c, packed + d * num * c,
                                    out + col * out_step * to.c, out_step * to.c, w - col);
      }
  });
}

// y[r, s] = sum of x[stride r + i - padding, stride s + j - padding] kernel[i, j], or its transpose, which takes the
// gradient of y to that of x.
ffi::Error Convolve(ffi::ThreadPool pool, Floats x, Floats kernel, int64_t stride, int64_t padding, bool transposed,
                    Result y) {
  Shape from(x.dimensions()), to(y->dimensions());
  auto k = kernel.dimensions();
  Window window{k[0], stride, padding};
  const Shape &larger = transposed ? to : from, &smaller = transposed ? from : to;
  if (from.IsEmpty() || to.IsEmpty() || !window.Fits(larger, smaller) || k[1] != k[0] || k[2] != larger.c ||
      k[3] != smaller.c || to.c % kChannels != 0)
    return Mismatch("the shapes do not fit a convolution");
  int64_t step = transposed ? 1 : stride, out_step = transposed ? stride : 1;
  bool wide = to.c % (2 * kLanes) == 0;
  auto* convolve = step == 1 ? (wide ? ConvolvePhase<8, 2, 1> : ConvolvePhase<16, 1, 1>)
                             : (wide ? ConvolvePhase<8, 2, 2> : ConvolvePhase<16, 1, 2>);
  for (const Phase& phase : MakePhases(window, transposed)) {
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
        for (int64_t col = begin; col < end; ++col, a += k.stride * from.c, b += to.c) AddProducts(sum, a, 1, b);
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
  constexpr int64_t kInputs = V == 1 ? 16 : 8, kOutputs = V * kLanes;
  int64_t c_blocks = (from.c + kInputs - 1) / kInputs, blocks = c_blocks * (to.c / kOutputs);
  int64_t size = window.size * window.size * from.c * to.c, total = to.n * to.h;
  // Few blocks of channels: the rows are divided too, each part with sums of its own.
  int64_t parts = std::clamp<int64_t>(kMostParts / blocks, 1, total);
  int64_t rows = std::max<int64_t>(1, kSecondLevel / (to.w * 2 * kOutputs));  // read once for each tap
  std::fill_n(out, size, 0.0f);
  std::vector<float> sums((parts - 1) * size);  // of all parts but the first
  Parallel(pool, blocks * parts, [&](int64_t task) {
    int64_t part = task / blocks, c_first = task % c_blocks * kInputs, d = task % blocks / c_blocks * kOutputs;
    int64_t c_last = std::min(from.c, c_first + kInputs), end = total * (part + 1) / parts;
    for (int64_t first = total * part / parts; first < end; first += rows) {
      auto add = [&](auto channels, int64_t c) {
        AddTaps<decltype(channels)::value, V>(x + c, from, g + d, to, window, first, std::min(first + rows, end),
                                              (part == 0 ? out : &sums[(part - 1) * size]) + c * to.c + d);
      };
      if (c_last - c_first == kInputs) {
        add(std::integral_constant<int, kInputs>{}, c_first);
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
  auto k = out->dimensions();
  Window window{k[0], stride, padding};
  if (from.IsEmpty() || to.IsEmpty() || !window.Fits(from, to) || k[1] != k[0] || k[2] != from.c || k[3] != to.c ||
      to.c % kChannels != 0)
    return Mismatch("the shapes do not fit the gradient of a kernel");
  auto* sum = to.c % (2 * kLanes) == 0 ? SumTaps<2> : SumTaps<1>;
  sum(pool, x.typed_data(), from, g.typed_data(), to, window, out->typed_data());
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("transposed")
                                  .Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve_kernel_gradient, ConvolveKernelGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("padding")
                                  .Ret<Floats>());

}  // namespace cardiojax
