// Instance normalisation with a leaky rectifier, and its gradient.

#include <cmath>
#include <vector>

#include "common.h"

namespace cardiojax {
namespace {

// Tasks of an image at most.
constexpr int64_t kMostParts = 8;

// Pixels of all images in blocks that stay in the first-level cache, and the blocks of an image in parts, one a task.
struct Blocks {
  int64_t n, c, pixels, size, per_image, parts;

  explicit Blocks(Shape s)
      : n(s.n), c(s.c), pixels(s.h * s.w), size(std::clamp<int64_t>(kFirstLevel / c, 1, pixels)),
        per_image((pixels + size - 1) / size), parts(std::min(per_image, kMostParts)) {}

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

bool IsNormalizable(Shape x, Floats scale, Floats bias) {
  return !x.IsEmpty() && x.c % kChannels == 0 && int64_t(scale.element_count()) == x.c &&
         int64_t(bias.element_count()) == x.c;
}

// y = rectified (x - mean) inverse scale + bias, the statistics [n, c] being those of each channel of each image.
ffi::Error Normalize(ffi::ThreadPool pool, Floats x, Floats scale, Floats bias, float epsilon, float slope, Result y,
                     Result mean, Result inverse) {
  Shape shape(x.dimensions());
  if (!IsNormalizable(shape, scale, bias)) return Mismatch("the shapes do not fit an instance normalisation");
  Blocks blocks(shape);
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
  Shape shape(x.dimensions());
  int64_t statistics = shape.n * shape.c;
  if (!IsNormalizable(shape, scale, bias) || int64_t(mean.element_count()) != statistics ||
      int64_t(inverse.element_count()) != statistics || g.element_count() != x.element_count())
    return Mismatch("the shapes do not fit the gradient of an instance normalisation");
  Blocks blocks(shape);
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(normalize, Normalize,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Attr<float>("epsilon")
                                  .Attr<float>("slope")
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(normalize_gradient, NormalizeGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Attr<float>("slope")
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>());

}  // namespace cardiojax
