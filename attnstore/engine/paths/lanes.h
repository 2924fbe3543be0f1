// Operations on sixteen floats, on any processor. kernel.cpp is written in them.
//
// With AVX-512, sixteen floats are one register and each operation is one instruction. Otherwise they are vectors of the
// compiler, two of eight floats for AVX2 and four of four for NEON or anything else, so that no other instruction set is
// named here.

#ifndef ATTNSTORE_LANES_H
#define ATTNSTORE_LANES_H

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define WITH_AVX512 1
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kLanes = 16;

#ifdef WITH_AVX512

using Floats = __m512;
using Some = __mmask16;  // some of the sixteen

inline Some first16(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<Some>((1u << count) - 1);
}
inline Some lanes(int64_t from, int64_t to) { return static_cast<Some>(0xffff << from) & first16(to); }

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float *p) { return _mm512_loadu_ps(p); }
inline Floats load(const float *p, Some some) { return _mm512_maskz_loadu_ps(some, p); }
inline Floats load_or(Floats other, const float *p, Some some) { return _mm512_mask_loadu_ps(other, some, p); }
inline void store(float *p, Floats x) { _mm512_storeu_ps(p, x); }
inline void store(float *p, Floats x, Some some) { _mm512_mask_storeu_ps(p, some, x); }
inline Floats only(Floats x, Some some) { return _mm512_maskz_mov_ps(some, x); }
inline Floats add(Floats x, Floats y) { return _mm512_add_ps(x, y); }
inline Floats sub(Floats x, Floats y) { return _mm512_sub_ps(x, y); }
inline Floats mul(Floats x, Floats y) { return _mm512_mul_ps(x, y); }
inline Floats fma(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
inline Floats fms(Floats x, Floats y, Floats z) { return _mm512_fmsub_ps(x, y, z); }
inline Floats larger(Floats x, Floats y) { return _mm512_max_ps(x, y); }  // of a NaN and y: y
inline float largest(Floats x) { return _mm512_reduce_max_ps(x); }
inline float total(Floats x) { return _mm512_reduce_add_ps(x); }
// x - floor(x), and y * 2^floor(x), which underflows to 0.
inline Floats above_whole(Floats x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Floats scaled(Floats y, Floats x) { return _mm512_scalef_ps(y, x); }

#else

#if defined(__AVX2__) && defined(__FMA__)
constexpr int64_t kPart = 8;
#else
constexpr int64_t kPart = 4;
#endif
constexpr int64_t kParts = kLanes / kPart;
typedef float Part __attribute__((vector_size(kPart * 4)));
typedef int32_t Whole __attribute__((vector_size(kPart * 4)));

struct Floats {
  Part part[kParts];
};
struct Some {
  int64_t from, to;
};

inline Some first16(int64_t count) { return {0, count}; }
inline Some lanes(int64_t from, int64_t to) { return {from, to}; }

template <typename Called>
inline Floats each(Called called) {
  Floats result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = called(i);
  return result;
}
inline Floats splat(float x) {
  return each([x](int64_t) { return Part{} + x; });
}
inline Floats zero() { return splat(0.0f); }
inline Floats load(const float *p) {
  return each([p](int64_t i) {
    Part x;
    std::memcpy(&x, p + i * kPart, sizeof x);
    return x;
  });
}
inline void store(float *p, Floats x) {
  for (int64_t i = 0; i < kParts; ++i) std::memcpy(p + i * kPart, &x.part[i], sizeof x.part[i]);
}
inline Floats load_or(Floats other, const float *p, Some some) {
  if (some.from <= 0 && some.to >= kLanes) return load(p);
  float x[kLanes];
  store(x, other);
  for (int64_t i = std::max<int64_t>(0, some.from); i < std::min(kLanes, some.to); ++i) x[i] = p[i];
  return load(x);
}
inline Floats load(const float *p, Some some) { return load_or(zero(), p, some); }
inline void store(float *p, Floats x, Some some) {
  if (some.from <= 0 && some.to >= kLanes) return store(p, x);
  float from[kLanes];
  store(from, x);
  for (int64_t i = std::max<int64_t>(0, some.from); i < std::min(kLanes, some.to); ++i) p[i] = from[i];
}
inline Floats only(Floats x, Some some) {
  if (some.from <= 0 && some.to >= kLanes) return x;
  float from[kLanes];
  store(from, x);
  return load(from, some);
}
inline Floats add(Floats x, Floats y) {
  return each([&](int64_t i) { return x.part[i] + y.part[i]; });
}
inline Floats sub(Floats x, Floats y) {
  return each([&](int64_t i) { return x.part[i] - y.part[i]; });
}
inline Floats mul(Floats x, Floats y) {
  return each([&](int64_t i) { return x.part[i] * y.part[i]; });
}
// A single instruction where the processor has one, because the compiler may contract (-ffp-contract=fast).
inline Floats fma(Floats x, Floats y, Floats z) {
  return each([&](int64_t i) { return x.part[i] * y.part[i] + z.part[i]; });
}
inline Floats fms(Floats x, Floats y, Floats z) {
  return each([&](int64_t i) { return x.part[i] * y.part[i] - z.part[i]; });
}
inline Floats larger(Floats x, Floats y) {
  return each([&](int64_t i) { return x.part[i] > y.part[i] ? x.part[i] : y.part[i]; });
}
inline float largest(Floats x) {
  float from[kLanes];
  store(from, x);
  return *std::max_element(from, from + kLanes);
}
// By halves: four dependent additions instead of fifteen.
inline float total(Floats x) {
  float from[kLanes];
  store(from, x);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) from[i] += from[i + half];
  return from[0];
}
inline Whole whole_below(Part x) {
  const Whole towards_zero = __builtin_convertvector(x, Whole);
  return towards_zero + (__builtin_convertvector(towards_zero, Part) > x);  // true is -1
}
// Powers below 2^-127 are cut off. Beside 1, which is the largest value of a row, they do not change a float sum. A NaN
// fails the comparison and stays NaN.
inline Part bounded(Part x) {
  const Part least = Part{} - 127.0f;
  return x < least ? least : x;
}
inline Floats above_whole(Floats x) {
  return each([&](int64_t i) {
    const Part b = bounded(x.part[i]);
    return b - __builtin_convertvector(whole_below(b), Part);
  });
}
inline Floats scaled(Floats y, Floats x) {
  return each([&](int64_t i) {
    const Whole bits = (whole_below(bounded(x.part[i])) + 127) << 23;
    Part power;
    std::memcpy(&power, &bits, sizeof power);
    return y.part[i] * power;
  });
}

#endif

}  // namespace

#endif
