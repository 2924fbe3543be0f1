// One layer's attention over every document of a batch on a CPU, reduced while it is computed.
//
// The mathematics is in reductions.py. For a block of 32 rows of one document, head by head:
//
//   scores   S = QK'              bfloat16 with float32 sums on AMX or AVX512-BF16, else float32
//   softmax  E = exp(S*scale - max), s = row sums, so P = E/s; E stays in float32 for the reductions
//   mean     M += E/(s*H)         32 rows of the head mean of P, in the second-level cache
//   output   O = (E V)/s          E in bfloat16 if the products are, as in flash attention
//
// After the last head, w'M is added to the sums of each row weighting, and M is kept for the rollout if it takes no
// more memory than q and k. Apart from kept means, nothing of size n*n exists.
//
// A task is a run of row blocks of one document; tasks are handed out longest first. A task adds to the sums of its own
// chunks of rows. Chunks depend only on the document, and their sums are added in order at the end, so no value depends
// on the number of threads or on their timing.
//
// The kernel is called through a C structure and does not depend on torch's headers, ABI or version. It only uses the
// OpenMP runtime that torch has loaded, so that both share one pool of threads.

#include "lanes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#if defined(WITH_AVX512) && defined(__AVX512BF16__)
#define WITH_DOT 1
#endif
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(WITH_DOT) && defined(__linux__)
#define WITH_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

// Filled in by Python; kernel.py declares the same structure. Strides are in elements, and the innermost one is 1.
extern "C" struct Call {
  int64_t documents, heads, key_heads, depth, value_depth;
  int64_t tokens;      // of all documents
  int64_t weightings;  // rows of `weights`
  int64_t window;      // how far attention reaches on both sides; negative: no limit
  int64_t bfloat16;    // the type of q, k, v and out: 1 bfloat16 (with AVX-512), 0 float32
  int64_t products;    // how bfloat16 is multiplied: a `Products`
  int64_t keep;        // `mean`: 0 nothing, 1 write head means to it, 2 read them from it
  int64_t threads;
  int64_t query_stride[3], key_stride[3], value_stride[3];  // batch, head, row
  int64_t out_stride[3];                                    // batch, row, head
  double scale;
  const int64_t *length;   // (documents): n
  const int64_t *batch;    // (documents): its batch entry in q, k, v and out
  const int64_t *row;      // (documents): its first row there
  const int64_t *token;    // (documents): its first column in weights and weighted
  const void *query, *key, *value;  // value and out may be null, if no output is needed
  void *out;
  const float *weights;    // (weightings, tokens)
  float *weighted;         // (weightings, tokens)
  float *head_rows;        // (tokens, heads): the first token's row of every head; may be null
  void *mean;              // the kept head means
};

namespace {

// From slow to fast; kernel.py has their names. Processors with AMX have all three.
enum Products : int64_t { kFloat32 = 0, kDot = 1, kAmx = 2 };

constexpr int64_t kRows = 32;   // rows in a block: two AMX tiles
constexpr int64_t kPanel = 32;  // columns are handled in panels of 32: two AMX tiles
constexpr int64_t kLine = 64;   // bytes

constexpr int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

using bf16 = uint16_t;
struct Half {  // IEEE binary16
  uint16_t bits;
};

#ifdef WITH_AVX512
inline __mmask32 first32(int64_t count) {
  return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : static_cast<__mmask32>((1u << count) - 1);
}
#endif

// ---------------------------------------------------------------- rows and columns of a block

struct Columns {
  int64_t from, width;  // both multiples of 32; from + width may pass the document's end
};

inline Columns columns_of(int64_t first_row, int64_t n, int64_t window) {
  if (window < 0) return {0, round_up(n, kPanel)};
  const int64_t from = std::max<int64_t>(0, first_row - window) / kPanel * kPanel;
  const int64_t to = std::min(n, std::min(n, first_row + kRows) + window);
  return {from, round_up(to - from, kPanel)};
}

int64_t mean_elements(int64_t n, int64_t window) {
  int64_t count = 0;
  for (int64_t r = 0; r < n; r += kRows) count += std::min(kRows, n - r) * columns_of(r, n, window).width;
  return count;
}

inline bool keeps_mean(const Call &c, int64_t n, int64_t elements) {
  return elements <= 2 * n * c.heads * c.depth;
}

// Rows whose weighted sums are added up together: at least four blocks, and at most 64 chunks per document.
inline int64_t chunk_rows(int64_t n) { return std::max<int64_t>(128, round_up((n + 63) / 64, kRows)); }

// ---------------------------------------------------------------- conversions

#ifdef WITH_AVX512
inline Floats load(const bf16 *p, Some mask) {
  const __m256i half = _mm256_maskz_loadu_epi16(mask, p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline __m256i to_bf16(Floats x) {
#ifdef WITH_DOT
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
#else
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_set1_epi32(rounded, nan, 0x7fc0));
#endif
}
inline void store(bf16 *p, Floats x, Some mask) { _mm256_mask_storeu_epi16(p, mask, to_bf16(x)); }
#endif

// A kept mean is float32 if q and k are. If they are bfloat16, it is 2^15 times its value as a half float, so that
// values from 2e-9 to 1 have 11 significant bits.
constexpr float kHalfUnit = 32768.0f;
inline Floats load_mean(const float *p) { return load(p); }
inline void store_mean(float *p, Floats x) { store(p, x); }
#ifdef WITH_AVX512
inline Floats load_mean(const Half *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
}
inline void store_mean(Half *p, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                      _mm512_cvtps_ph(_mm512_mul_ps(x, _mm512_set1_ps(kHalfUnit)), _MM_FROUND_TO_NEAREST_INT));
}
#endif
template <typename Mean>
constexpr float unit_of() { return sizeof(Mean) == 2 ? 1.0f / kHalfUnit : 1.0f; }

#ifdef WITH_AVX512
// Transpose a 16 x 16 matrix of 32-bit elements, one row per register.
inline void transpose16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}
#endif

// ---------------------------------------------------------------- the two matrix products

// Products in float32, whatever the type of q, k and v. A panel is 32 columns of the right-hand matrix, row by row.
template <typename Element_>
struct Single {
  using Element = Element_;
  using Weight = float;  // the softmax's result for the second product
  using Mean = std::conditional_t<sizeof(Element) == 2, Half, float>;
  static constexpr bool kExact = true;

  static int64_t query_bytes(int64_t depth) { return kRows * depth * 4; }
  static int64_t key_bytes(int64_t n, int64_t depth) { return round_up(n, kPanel) * depth * 4; }
  static int64_t value_bytes(int64_t n, int64_t depth) { return round_up(n, kPanel) * output_width(depth) * 4; }
  static int64_t output_width(int64_t depth) { return round_up(depth, kPanel); }
  static int64_t weight_stride(int64_t width) { return width + 16; }  // that of the scores, which become the weights

  static void begin() {}
  static void end() {}

  // (rows, depth); missing rows are zero.
  static void pack_queries(const Element *q, int64_t stride, int64_t rows, int64_t depth, void *packed) {
    auto *out = static_cast<float *>(packed);
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t k = 0; k < depth; k += 16) {
        const Some some = first16(depth - k);
        store(out + r * depth + k, r < rows ? load(q + r * stride + k, some) : zero(), some);
      }
  }

  // Panels of 32 keys, each (depth, 32). Packs the panel that begins with key `j` of `n`.
  static void pack_keys(const Element *keys, int64_t stride, int64_t j, int64_t n, int64_t depth, void *packed) {
    auto *panel = static_cast<float *>(packed) + j * depth;
#ifdef WITH_AVX512
    for (int64_t half = 0; half < kPanel; half += 16)
      for (int64_t k = 0; k < depth; k += 16) {
        __m512i r[16];
        for (int64_t i = 0; i < 16; ++i)
          r[i] = j + half + i < n ? _mm512_castps_si512(load(keys + (j + half + i) * stride + k, first16(depth - k)))
                                  : _mm512_setzero_si512();
        transpose16(r);
        for (int64_t i = 0; i < std::min<int64_t>(16, depth - k); ++i)
          _mm512_storeu_si512(panel + (k + i) * kPanel + half, r[i]);
      }
#else
    for (int64_t i = 0; i < kPanel; ++i)
      for (int64_t k = 0; k < depth; ++k) panel[k * kPanel + i] = j + i < n ? keys[(j + i) * stride + k] : 0.0f;
#endif
  }

  // Panels of 32 value columns, each (n rounded up to a multiple of 32, 32); missing rows are zero. Packs the rows `j`
  // to `j` + 31.
  static void pack_values(const Element *v, int64_t stride, int64_t j, int64_t n, int64_t depth, void *packed) {
    auto *out = static_cast<float *>(packed);
    const int64_t padded = round_up(n, kPanel);
    for (int64_t i = j; i < j + kPanel; ++i)
      for (int64_t c = 0; c < output_width(depth); c += 16)
        store(out + c / kPanel * kPanel * padded + i * kPanel + c % kPanel,
              i < n ? load(v + i * stride + c, first16(depth - c)) : zero());
  }

  static void scores(const void *queries, const void *keys, int64_t depth, int64_t rows, Columns columns, float *s,
                     int64_t stride) {
    const auto *panels = static_cast<const float *>(keys) + columns.from * depth;
    for (int64_t j = 0; j < columns.width; j += kPanel)
      product(static_cast<const float *>(queries), depth, rows, panels + j * depth, depth, s + j, stride);
  }

  static void outputs(const float *weights, int64_t stride, const void *values, int64_t n, int64_t depth,
                      int64_t rows, Columns columns, float *o) {
    const int64_t padded = round_up(n, kPanel), width = output_width(depth);
    const auto *panels = static_cast<const float *>(values) + columns.from * kPanel;
    for (int64_t c = 0; c < width; c += kPanel)
      product(weights, stride, rows, panels + c * padded, columns.width, o + c, width);
  }

  // C (rows rounded up to a multiple of 8, 32) = A (rows, inner) times a panel (inner, 32). It computes as many sums at
  // once as fit into the registers: AVX-512 and NEON have 32 of them, AVX2 has 16.
  static void product(const float *a, int64_t a_stride, int64_t rows, const float *panel, int64_t inner, float *c,
                      int64_t c_stride) {
#ifdef WITH_AVX512
    constexpr int kGroup = 8, kBeside = 2;
#else
    constexpr int kGroup = 4, kBeside = 1;
#endif
    for (int64_t r = 0; r < rows; r += kGroup)
      for (int64_t j = 0; j < kPanel; j += kBeside * kLanes) {
        Floats sums[kGroup][kBeside];
        for (auto &row : sums)
          for (auto &sum : row) sum = zero();
        const float *left = a + r * a_stride;
        for (int64_t k = 0; k < inner; ++k) {
          Floats right[kBeside];
          for (int t = 0; t < kBeside; ++t) right[t] = load(panel + k * kPanel + j + t * kLanes);
          for (int i = 0; i < kGroup; ++i) {
            const Floats x = splat(left[i * a_stride + k]);
            for (int t = 0; t < kBeside; ++t) sums[i][t] = fma(x, right[t], sums[i][t]);
          }
        }
        for (int i = 0; i < kGroup; ++i)
          for (int t = 0; t < kBeside; ++t) store(c + (r + i) * c_stride + j + t * kLanes, sums[i][t]);
      }
  }
};

#ifdef WITH_DOT
// The layout of bfloat16 matrices for products with float32 sums. A tile is 16 rows of 64 bytes. A right-hand tile
// holds 32 rows of the matrix in pairs, with element (2k, j) beside element (2k + 1, j), so that one of its rows is a
// register for dot products of pairs, and the whole is an AMX tile.
struct Tiles {
  using Element = bf16;
  using Weight = bf16;
  using Mean = Half;
  static constexpr bool kExact = false;
  static constexpr int64_t kTile = 1024;  // bytes

  static int64_t steps(int64_t depth) { return (depth + 31) / 32; }
  static int64_t query_bytes(int64_t depth) { return steps(depth) * 2 * kTile; }
  static int64_t key_bytes(int64_t n, int64_t depth) { return round_up(n, kPanel) / 16 * steps(depth) * kTile; }
  static int64_t value_bytes(int64_t n, int64_t depth) {
    return round_up(n, kPanel) / 32 * (output_width(depth) / 16) * kTile;
  }
  static int64_t output_width(int64_t depth) { return round_up(depth, 16); }
  // An odd number of cache lines, so that the rows of a tile are in different cache sets.
  static int64_t weight_stride(int64_t width) { return (width / 32 | 1) * 32; }

  // Two tiles of 16 rows for every 32 elements of the depth.
  static void pack_queries(const bf16 *q, int64_t stride, int64_t rows, int64_t depth, void *packed) {
    auto *out = static_cast<char *>(packed);
    for (int64_t k = 0; k < steps(depth); ++k)
      for (int64_t r = 0; r < kRows; ++r) {
        const __m512i x = r < rows ? _mm512_maskz_loadu_epi16(first32(depth - 32 * k), q + r * stride + 32 * k)
                                   : _mm512_setzero_si512();
        _mm512_storeu_si512(out + k * 2 * kTile + r * 64, x);
      }
  }

  // A tile for every 16 keys and every 32 elements of the depth. Packs 32 keys from key `j` of `n` on.
  static void pack_keys(const bf16 *keys, int64_t stride, int64_t j, int64_t n, int64_t depth, void *packed) {
    auto *out = static_cast<char *>(packed) + j / 16 * steps(depth) * kTile;
    for (int64_t half = j; half < j + kPanel; half += 16)
      for (int64_t k = 0; k < steps(depth); ++k) {
        const __mmask32 mask = first32(depth - 32 * k);
        __m512i r[16];
        for (int64_t i = 0; i < 16; ++i)
          r[i] = half + i < n ? _mm512_maskz_loadu_epi16(mask, keys + (half + i) * stride + 32 * k)
                              : _mm512_setzero_si512();
        transpose16(r);
        for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * 64, r[i]);
        out += kTile;
      }
  }

  // A tile for every 32 tokens and every 16 value columns. Packs 32 tokens from token `j` of `n` on.
  static void pack_values(const bf16 *v, int64_t stride, int64_t j, int64_t n, int64_t depth, void *packed) {
    auto *out = static_cast<char *>(packed) + j / 32 * (output_width(depth) / 16) * kTile;
    for (int64_t c = 0; c < output_width(depth); c += 16) {
      const __mmask16 mask = first16(depth - c);
      for (int64_t i = 0; i < 32; i += 2) {
        const __m256i even = _mm256_maskz_loadu_epi16(j + i < n ? mask : 0, v + (j + i) * stride + c);
        const __m256i odd = _mm256_maskz_loadu_epi16(j + i + 1 < n ? mask : 0, v + (j + i + 1) * stride + c);
        _mm512_storeu_si512(out + i / 2 * 64,
                            _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                                            _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16)));
      }
      out += kTile;
    }
  }
};

// AVX512-BF16: one instruction adds products of pairs to sixteen sums.
struct Dot : Tiles {
  static void begin() {}
  static void end() {}

  static void scores(const void *queries, const void *keys, int64_t depth, int64_t rows, Columns columns, float *s,
                     int64_t stride) {
    const int64_t count = steps(depth);
    const auto *k = static_cast<const char *>(keys) + columns.from / 16 * count * kTile;
    for (int64_t j = 0; j < columns.width; j += kPanel, k += 2 * count * kTile)
      for (int64_t r = 0; r < rows; r += kGroup)
        product<2>(static_cast<const char *>(queries) + r * 64, 64, 2 * kTile, k, kTile, count * kTile, count,
                   s + r * stride + j, stride);
  }

  static void outputs(const bf16 *weights, int64_t stride, const void *values, int64_t, int64_t depth,
                      int64_t rows, Columns columns, float *o) {
    const int64_t width = output_width(depth), count = width / 16;
    const auto *v = static_cast<const char *>(values) + columns.from / 32 * count * kTile;
    for (int64_t r = 0; r < rows; r += kGroup) {
      const auto *w = reinterpret_cast<const char *>(weights + r * stride);
      float *to = o + r * width;
      int64_t c = 0;
      for (; c + 1 < count; c += 2)
        product<2>(w, stride * 2, 64, v + c * kTile, count * kTile, kTile, columns.width / 32, to + c * 16, width);
      if (c < count)
        product<1>(w, stride * 2, 64, v + c * kTile, count * kTile, kTile, columns.width / 32, to + c * 16, width);
    }
  }

  static constexpr int64_t kGroup = 8;  // rows whose sums stay in registers

  // C (8, 16 * Beside) = the sum over `steps` of A (8, 32) times `Beside` right-hand tiles side by side. In bytes,
  // `a_row` and `a_step` are the distances between rows and steps of A, `b_step` and `b_tile` between those of B.
  template <int Beside>
  static void product(const char *a, int64_t a_row, int64_t a_step, const char *b, int64_t b_step, int64_t b_tile,
                      int64_t steps, float *c, int64_t c_stride) {
    __m512 sums[kGroup][Beside];
    for (auto &row : sums)
      for (auto &sum : row) sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < steps; ++i, a += a_step, b += b_step)
      for (int64_t pair = 0; pair < 16; ++pair) {
        __m512bh right[Beside];
        for (int t = 0; t < Beside; ++t)
          right[t] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + t * b_tile + pair * 64));
        for (int64_t r = 0; r < kGroup; ++r) {
          int32_t two;
          std::memcpy(&two, a + r * a_row + pair * 4, sizeof two);
          const auto left = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
          for (int t = 0; t < Beside; ++t) sums[r][t] = _mm512_dpbf16_ps(sums[r][t], left, right[t]);
        }
      }
    for (int64_t r = 0; r < kGroup; ++r)
      for (int t = 0; t < Beside; ++t) _mm512_storeu_ps(c + r * c_stride + t * 16, sums[r][t]);
  }
};
#endif

#ifdef WITH_AMX
// AMX: one instruction adds to 16 x 16 sums.
struct Amx : Tiles {
  // GCC's tile intrinsics do not tell the compiler which memory they access. No load or store may move past this.
  static void fence() { asm volatile("" ::: "memory"); }

  static void begin() {
    struct Config {
      uint8_t palette, start, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    };
    alignas(64) static const Config config = {
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    fence();
    _tile_loadconfig(&config);
  }
  static void end() { _tile_release(); }

  // Tiles 0 to 3 hold the sums (2 x 2), 4 and 5 the left-hand rows, 6 and 7 the right-hand columns.
  static void scores(const void *queries, const void *keys, int64_t depth, int64_t rows, Columns columns, float *s,
                     int64_t stride) {
    const int64_t count = steps(depth);
    const auto *q = static_cast<const char *>(queries);
    const auto *k = static_cast<const char *>(keys) + columns.from / 16 * count * kTile;
    const bool both = rows > 16;
    fence();
    if (count == 1) {
      _tile_loadd(4, q, 64);
      _tile_loadd(5, q + kTile, 64);
    }
    for (int64_t j = 0; j < columns.width; j += kPanel, k += 2 * count * kTile) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t i = 0; i < count; ++i) {
        if (count > 1) {
          _tile_loadd(4, q + i * 2 * kTile, 64);
          if (both) _tile_loadd(5, q + i * 2 * kTile + kTile, 64);
        }
        _tile_loadd(6, k + i * kTile, 64);
        _tile_loadd(7, k + (count + i) * kTile, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, s + j, stride * 4);
      _tile_stored(1, s + j + 16, stride * 4);
      if (both) {
        _tile_stored(2, s + 16 * stride + j, stride * 4);
        _tile_stored(3, s + 16 * stride + j + 16, stride * 4);
      }
    }
    fence();
  }

  static void outputs(const bf16 *weights, int64_t stride, const void *values, int64_t, int64_t depth,
                      int64_t rows, Columns columns, float *o) {
    const int64_t width = output_width(depth), count = width / 16;
    const auto *v = static_cast<const char *>(values) + columns.from / 32 * count * kTile;
    const bool both = rows > 16;
    fence();
    for (int64_t c = 0; c < count; c += 2) {
      const bool pair = c + 1 < count;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t j = 0; j < columns.width; j += 32) {
        const char *tile = v + (j / 32 * count + c) * kTile;
        _tile_loadd(4, weights + j, stride * 2);
        _tile_loadd(6, tile, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (both) {
          _tile_loadd(5, weights + 16 * stride + j, stride * 2);
          _tile_dpbf16ps(2, 5, 6);
        }
        if (pair) {
          _tile_loadd(7, tile + kTile, 64);
          _tile_dpbf16ps(1, 4, 7);
          if (both) _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, o + c * 16, width * 4);
      if (pair) _tile_stored(1, o + c * 16 + 16, width * 4);
      if (both) {
        _tile_stored(2, o + 16 * width + c * 16, width * 4);
        if (pair) _tile_stored(3, o + 16 * width + c * 16 + 16, width * 4);
      }
    }
    fence();
  }
};
#endif

// ---------------------------------------------------------------- softmax

// 2^x. The polynomials minimise the largest relative error on [0, 1): 1.9e-9, or 2.6e-6 for bfloat16 inputs. `scaled`
// puts the integer part into the exponent and underflows to 0; infinities and NaN give the correct results.
template <bool Exact>
inline Floats power_of_two(Floats x) {
  constexpr float kExact[] = {0.00021702255459848905f, 0.0012439687826979809f, 0.009678840996193344f,
                              0.05548334198451639f,    0.240229836273975f,     0.6931469838406185f,
                              1.0000000018558002f};
  constexpr float kQuick[] = {0.013534167911694634f, 0.0520114606190552f, 0.24144275688619007f, 0.693003834471064f,
                              1.0000025933706653f};
  constexpr int count = Exact ? 7 : 5;
  const float *coefficients = Exact ? kExact : kQuick;
  const Floats f = above_whole(x);
  Floats y = splat(coefficients[0]);
  for (int i = 1; i < count; ++i) y = fma(y, f, splat(coefficients[i]));
  return scaled(y, x);
}

// The softmax of one row of scores (width) without its division: exp(s*scale - max) inside [from, to), zero outside.
// The result goes into `weights` and, with Keep, also into `s`. Returns its sum. `factor` is scale * log2(e).
template <typename Engine, bool Keep>
float softmax_row(float *s, typename Engine::Weight *weights, int64_t width, int64_t from, int64_t to, float factor) {
  constexpr bool kApart = sizeof(typename Engine::Weight) == 2;  // else the weights are stored in `s`
  const int64_t begin = from / 16, end = (to + 15) / 16;         // vectors
  const Some first = lanes(from - begin * 16, to - begin * 16), last = first16(to - (end - 1) * 16);

  const Floats lowest = splat(-std::numeric_limits<float>::infinity());
  Floats m0 = load_or(lowest, s + begin * 16, first);
  Floats m1 = lowest, m2 = lowest, m3 = lowest;
  if (end - begin > 1) m1 = load_or(lowest, s + (end - 1) * 16, last);
  int64_t v = begin + 1;
  for (; v + 4 < end; v += 4) {
    m0 = larger(load(s + v * 16), m0);
    m1 = larger(load(s + v * 16 + 16), m1);
    m2 = larger(load(s + v * 16 + 32), m2);
    m3 = larger(load(s + v * 16 + 48), m3);
  }
  for (; v + 1 < end; ++v) m2 = larger(load(s + v * 16), m2);
  const float highest = largest(larger(larger(m0, m1), larger(m2, m3)));

  const Floats scale = splat(factor), top = splat(highest), shift = mul(top, scale);
  Floats sum0 = zero(), sum1 = zero();
  auto one = [&](int64_t at) {
    const Floats x = load(s + at * 16);
    // Subtracting the maximum first rounds only the difference, not the scores.
    return power_of_two<Engine::kExact>(Engine::kExact ? mul(sub(x, top), scale)
                                                       : fms(x, scale, shift));
  };
  auto put = [&](int64_t at, Floats e) {
    if (Keep || !kApart) store(s + at * 16, e);
#ifdef WITH_AVX512
    if constexpr (kApart) _mm256_storeu_si256(reinterpret_cast<__m256i *>(weights + at * 16), to_bf16(e));
#endif
  };
  for (v = 0; v < begin; ++v) put(v, zero());
  for (v = end; v < width / 16; ++v) put(v, zero());
  {
    const Floats e = only(one(begin), first);
    sum0 = e;
    put(begin, e);
  }
  for (v = begin + 1; v + 2 < end; v += 2) {
    const Floats e0 = one(v), e1 = one(v + 1);
    sum0 = add(sum0, e0);
    sum1 = add(sum1, e1);
    put(v, e0);
    put(v + 1, e1);
  }
  for (; v < end; ++v) {
    const Floats e = only(one(v), v + 1 == end ? last : first16(16));
    sum1 = add(sum1, e);
    put(v, e);
  }
  return total(add(sum0, sum1));
}

// ---------------------------------------------------------------- the plan

struct Document {
  int64_t n, chunk;     // rows of the document, and of a chunk
  int64_t partial;      // where its chunks' sums begin, in floats; a chunk's are (weightings, n rounded up to 32)
  int64_t mean;         // where its head mean begins, in elements; -1: not kept
  char *keys, *values;  // packed for all its tasks; null if it has one task, which packs them itself
};

struct Task {
  int64_t document, from, to;  // a range of rows; of columns, if a kept mean is read
  int64_t cost;
};

// Memory that a thread keeps between calls: fresh pages cost more than the work on short documents.
struct Scratch {
  char *memory = nullptr;
  int64_t bytes = 0;
  ~Scratch() { std::free(memory); }
  bool reserve(int64_t wanted) {
    if (wanted <= bytes) return true;
    std::free(memory);
    bytes = round_up(wanted, 4096);
    memory = static_cast<char *>(std::aligned_alloc(4096, bytes));
    if (memory == nullptr) bytes = 0;
    return memory != nullptr;
  }
};
thread_local Scratch scratch;

struct Carver {  // hands out pieces of the scratch memory
  char *at;
  template <typename T>
  T *take(int64_t bytes) {
    char *here = at;
    at += round_up(bytes, kLine);
    return reinterpret_cast<T *>(here);
  }
};

template <typename Engine>
class Layer {
  using Element = typename Engine::Element;
  using Weight = typename Engine::Weight;
  using Mean = typename Engine::Mean;

 public:
  explicit Layer(const Call &call) : c(call) {}

  // Returns false if memory ran out.
  bool run() {
    plan();
    std::vector<float> sums(static_cast<size_t>(partials));
    char *shared = nullptr;
    if (shared_bytes > 0) {
      shared = static_cast<char *>(std::aligned_alloc(4096, round_up(shared_bytes, 4096)));
      if (shared == nullptr) return false;
    }
    place_shared(shared);
    partial = sums.data();
    std::atomic<bool> failed{false};
    const auto count = static_cast<int64_t>(tasks.size());
    const auto packs = static_cast<int64_t>(packings.size());
#pragma omp parallel num_threads(static_cast<int>(c.threads))
    {
      const bool ready = scratch.reserve(scratch_bytes);
      if (!ready) failed = true;
      Engine::begin();
      if (packs > 0) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < packs; ++i)
          for (int64_t j = packings[i].from; j < packings[i].to; j += kPanel)
            pack(documents[packings[i].document], packings[i].document, j);
      }
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i) {
        if (!ready) continue;
        const Task &task = tasks[i];
        if (c.keep == 2 && documents[task.document].mean >= 0)
          read_mean(task);
        else
          attend(task);
      }
      if (c.weightings > 0) {
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < c.documents; ++i) add_up(i);
      }
      Engine::end();
    }
    std::free(shared);
    return !failed;
  }

 private:
  const Call &c;
  std::vector<Document> documents;
  std::vector<Task> tasks, packings;
  std::vector<int64_t> shared_documents;
  int64_t partials = 0, shared_bytes = 0, scratch_bytes = 0;
  float *partial = nullptr;

  int64_t key_bytes(int64_t n) const { return round_up(Engine::key_bytes(n, c.depth), kLine); }
  int64_t value_bytes(int64_t n) const {
    return c.value == nullptr ? 0 : round_up(Engine::value_bytes(n, c.value_depth), kLine);
  }

  void plan() {
    int64_t mean = 0, total = 0, widest = 0, longest_own = 0;
    for (int64_t i = 0; i < c.documents; ++i) {
      const int64_t n = c.length[i];
      Document d{n, chunk_rows(n), partials, -1, nullptr, nullptr};
      partials += c.weightings * round_up(n, kPanel) * ((n + d.chunk - 1) / d.chunk);
      if (c.keep != 0) {
        const int64_t elements = mean_elements(n, c.window);
        if (keeps_mean(c, n, elements)) {
          d.mean = mean;
          mean += elements;
        }
      }
      documents.push_back(d);
      total += n * columns_of(n / 2, n, c.window).width;
      widest = std::max(widest, c.window < 0 ? round_up(n, kPanel)
                                             : std::min(round_up(n, kPanel), 2 * c.window + kRows + 2 * kPanel));
    }
    // At least four tasks per thread, so that none waits long for another. Documents are split for no other reason.
    const int64_t limit = c.threads == 1 ? total : total / (4 * c.threads) + 1;
    for (int64_t i = 0; i < c.documents; ++i) {
      Document &d = documents[i];
      if (c.keep == 2 && d.mean >= 0) {
        for (int64_t from = 0; from < d.n; from += 512)
          tasks.push_back({i, from, std::min(d.n, from + 512), d.n * 512});
        continue;
      }
      const int64_t width = columns_of(d.n / 2, d.n, c.window).width, chunks = (d.n + d.chunk - 1) / d.chunk;
      const int64_t pieces = std::min(chunks, (d.n * width + limit - 1) / limit);
      const int64_t rows = (chunks + pieces - 1) / pieces * d.chunk;
      for (int64_t from = 0; from < d.n; from += rows) {
        const int64_t to = std::min(d.n, from + rows);
        tasks.push_back({i, from, to, (to - from) * width * c.heads});
      }
      if (pieces > 1) {
        shared_documents.push_back(i);
        for (int64_t from = 0; from < d.n; from += 256) packings.push_back({i, from, std::min(d.n, from + 256), 0});
        shared_bytes += c.key_heads * (key_bytes(d.n) + value_bytes(d.n));
      } else {
        longest_own = std::max(longest_own, d.n);
      }
    }
    std::stable_sort(tasks.begin(), tasks.end(), [](const Task &a, const Task &b) { return a.cost > b.cost; });
    scratch_bytes = c.key_heads * (key_bytes(longest_own) + value_bytes(longest_own)) +
                    Engine::query_bytes(c.depth) + kRows * Engine::output_width(c.value_depth) * 4 +
                    2 * kRows * (widest + 16) * 4 + kRows * Engine::weight_stride(widest) * 4 + 16 * kLine;
  }

  void place_shared(char *shared) {
    for (const int64_t i : shared_documents) {
      Document &d = documents[i];
      d.keys = shared;
      d.values = shared + c.key_heads * key_bytes(d.n);
      shared += c.key_heads * (key_bytes(d.n) + value_bytes(d.n));
    }
  }

  const Element *place(const void *base, const int64_t stride[3], int64_t document, int64_t head) const {
    return static_cast<const Element *>(base) + c.batch[document] * stride[0] + head * stride[1] +
           c.row[document] * stride[2];
  }

  // Packs keys and values of 32 tokens from token `j` on, for all heads, which are side by side in a row.
  void pack(const Document &d, int64_t document, int64_t j) const {
    for (int64_t h = 0; h < c.key_heads; ++h)
      Engine::pack_keys(place(c.key, c.key_stride, document, h), c.key_stride[2], j, d.n, c.depth,
                        d.keys + h * key_bytes(d.n));
    if (c.value == nullptr) return;
    for (int64_t h = 0; h < c.key_heads; ++h)
      Engine::pack_values(place(c.value, c.value_stride, document, h), c.value_stride[2], j, d.n, c.value_depth,
                          d.values + h * value_bytes(d.n));
  }

  // Whether any weighting uses a row. A NaN weight does: it must appear in the result.
  bool weighs(int64_t document, int64_t row) const {
    for (int64_t k = 0; k < c.weightings; ++k)
      if (c.weights[k * c.tokens + c.token[document] + row] != 0.0f) return true;
    return false;
  }

  void attend(const Task &task) const {
    Document d = documents[task.document];
    Carver carver{scratch.memory};
    auto *queries = carver.take<char>(Engine::query_bytes(c.depth));
    auto *o = carver.take<float>(kRows * Engine::output_width(c.value_depth) * 4);
    const int64_t padded = round_up(d.n, kPanel);
    bool packed = d.keys != nullptr;
    if (!packed) {
      d.keys = carver.take<char>(c.key_heads * key_bytes(d.n));
      d.values = carver.take<char>(c.key_heads * value_bytes(d.n));
    }
    auto *mean_at = d.mean < 0 || c.keep != 1 ? nullptr : static_cast<Mean *>(c.mean) + d.mean;
    if (mean_at != nullptr)
      for (int64_t r = 0; r < task.from; r += kRows)
        mean_at += std::min(kRows, d.n - r) * columns_of(r, d.n, c.window).width;

    for (int64_t first = task.from; first < task.to; first += kRows) {
      const int64_t rows = std::min(kRows, task.to - first);
      const Columns columns = columns_of(first, d.n, c.window);
      const int64_t stride = columns.width + 16, weight_stride = Engine::weight_stride(columns.width);
      Carver rest = carver;
      auto *s = rest.take<float>(kRows * stride * 4);
      auto *mean = rest.take<float>(kRows * stride * 4);
      auto *weights = sizeof(Weight) == 2 ? rest.take<Weight>(kRows * weight_stride * 2) : reinterpret_cast<Weight *>(s);
      float *sums = partial + d.partial + first / d.chunk * c.weightings * padded;
      if (c.weightings > 0 && first % d.chunk == 0)
        std::memset(sums, 0, static_cast<size_t>(c.weightings * padded) * sizeof(float));

      bool counts[kRows], any = false;
      for (int64_t r = 0; r < rows; ++r) any |= counts[r] = mean_at != nullptr || weighs(task.document, first + r);
      const bool heads_wanted = c.head_rows != nullptr && first == 0;
      if (c.out == nullptr && !any && !heads_wanted) continue;
      if (!packed)
        for (int64_t j = 0; j < d.n; j += kPanel) pack(d, task.document, j);
      packed = true;

      for (int64_t h = 0; h < c.heads; ++h)
        attend_head(task.document, d, h, first, rows, columns, counts, heads_wanted, queries, s, stride, weights,
                    weight_stride, mean, o);
      if (c.weightings > 0 && any) weigh(task.document, d, first, rows, columns, counts, mean, stride, sums);
      if (mean_at != nullptr) {
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t j = 0; j < columns.width; j += 16)
            store_mean(mean_at + r * columns.width + j, load(mean + r * stride + j));
        mean_at += rows * columns.width;
      }
    }
  }

  // One head of one block: its output, and its share of the head mean, for the rows in `counts`.
  void attend_head(int64_t document, const Document &d, int64_t h, int64_t first, int64_t rows, Columns columns,
                   const bool *counts, bool heads_wanted, char *queries, float *s, int64_t stride, Weight *weights,
                   int64_t weight_stride, float *mean, float *o) const {
    const int64_t key_head = h / (c.heads / c.key_heads);
    const float factor = static_cast<float>(c.scale * 1.4426950408889634);
    const float share = 1.0f / static_cast<float>(c.heads);
    const Element *q = place(c.query, c.query_stride, document, h) + first * c.query_stride[2];
    Engine::pack_queries(q, c.query_stride[2], rows, c.depth, queries);
    if (h + 1 < c.heads)  // prefetched during this head, because tile loads can't overlap with their cache misses
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < c.depth; k += kLine / static_cast<int64_t>(sizeof(Element)))
          __builtin_prefetch(q + c.query_stride[1] + r * c.query_stride[2] + k);
    Engine::scores(queries, d.keys + key_head * key_bytes(d.n), c.depth, rows, columns, s, stride);
    float inverse[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = first + r;
      const int64_t from = c.window < 0 ? 0 : std::max<int64_t>(0, i - c.window) - columns.from;
      const int64_t to = (c.window < 0 ? d.n : std::min(d.n, i + c.window + 1)) - columns.from;
      float *row = s + r * stride;
      Weight *weight_row = weights + r * weight_stride;
      const bool keep = counts[r] || (heads_wanted && r == 0);
      inverse[r] = 1.0f / (keep ? softmax_row<Engine, true>(row, weight_row, columns.width, from, to, factor)
                                : softmax_row<Engine, false>(row, weight_row, columns.width, from, to, factor));
      if (counts[r]) {
        const Floats f = splat(inverse[r] * share);
        float *m = mean + r * stride;
        if (h == 0)
          for (int64_t j = 0; j < columns.width; j += 16)
            store(m + j, mul(load(row + j), f));
        else
          for (int64_t j = 0; j < columns.width; j += 16)
            store(m + j, fma(load(row + j), f, load(m + j)));
      }
      if (heads_wanted && r == 0) {
        float *to_row = c.head_rows + c.token[document] * c.heads + h;
        for (int64_t j = 0; j < d.n; ++j) to_row[j * c.heads] = 0.0f;
        for (int64_t j = from; j < to; ++j) to_row[(columns.from + j) * c.heads] = row[j] * inverse[0];
      }
    }
    if (c.out == nullptr) return;
    Engine::outputs(weights, weight_stride, d.values + key_head * value_bytes(d.n), d.n, c.value_depth, rows, columns,
                    o);
    const int64_t width = Engine::output_width(c.value_depth);
    auto *out = static_cast<Element *>(c.out) + c.batch[document] * c.out_stride[0] +
                (c.row[document] + first) * c.out_stride[1] + h * c.out_stride[2];
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < c.value_depth; j += 16)
        store(out + r * c.out_stride[1] + j,
                mul(load(o + r * width + j), splat(inverse[r])),
                first16(c.value_depth - j));
  }

  // sums (weightings, n) += w'M, without rows of weight 0.
  void weigh(int64_t document, const Document &d, int64_t first, int64_t rows, Columns columns, const bool *counts,
             const float *mean, int64_t stride, float *sums) const {
    const int64_t padded = round_up(d.n, kPanel);
    for (int64_t k = 0; k < c.weightings; ++k) {
      const float *w = c.weights + k * c.tokens + c.token[document] + first;
      int64_t used[kRows], count = 0;
      for (int64_t r = 0; r < rows; ++r)
        if (counts[r] && w[r] != 0.0f) used[count++] = r;
      if (count == 0) continue;
      float *to = sums + k * padded + columns.from;
      for (int64_t j = 0; j < columns.width; j += 16) {
        Floats sum = load(to + j);
        for (int64_t i = 0; i < count; ++i)
          sum = fma(splat(w[used[i]]), load(mean + used[i] * stride + j), sum);
        store(to + j, sum);
      }
    }
  }

  // M'w for some columns of a document whose head mean was kept, with one weighting.
  void read_mean(const Task &task) const {
    const Document &d = documents[task.document];
    const float *w = c.weights + c.token[task.document];
    float *out = c.weighted + c.token[task.document];
    alignas(64) float sums[512 + 16] = {};
    const auto *block = static_cast<const Mean *>(c.mean) + d.mean;
    for (int64_t first = 0; first < d.n; first += kRows) {
      const int64_t rows = std::min(kRows, d.n - first);
      const Columns columns = columns_of(first, d.n, c.window);
      const int64_t from = std::max(task.from, columns.from);
      const int64_t to = std::min(round_up(task.to, 16), columns.from + columns.width);
      int64_t used[kRows], count = 0;
      for (int64_t r = 0; r < rows; ++r)
        if (w[first + r] != 0.0f) used[count++] = r;
      for (int64_t j = from; count > 0 && j < to; j += 16) {
        Floats sum = load(sums + j - task.from);
        for (int64_t i = 0; i < count; ++i)
          sum = fma(splat(w[first + used[i]]),
                                load_mean(block + used[i] * columns.width + j - columns.from), sum);
        store(sums + j - task.from, sum);
      }
      block += rows * columns.width;
    }
    for (int64_t j = task.from; j < task.to; ++j) out[j] = sums[j - task.from] * unit_of<Mean>();
  }

  // Adds the sums of a document's chunks, in order.
  void add_up(int64_t document) const {
    const Document &d = documents[document];
    if (c.keep == 2 && d.mean >= 0) return;
    const int64_t padded = round_up(d.n, kPanel), chunks = (d.n + d.chunk - 1) / d.chunk;
    for (int64_t k = 0; k < c.weightings; ++k) {
      float *out = c.weighted + k * c.tokens + c.token[document];
      for (int64_t j = 0; j < d.n; j += 16) {
        Floats sum = zero();
        for (int64_t i = 0; i < chunks; ++i)
          sum = add(sum, load(partial + d.partial + (i * c.weightings + k) * padded + j));
        store(out + j, sum, first16(d.n - j));
      }
    }
  }
};

}  // namespace

extern "C" {

// The fastest `Products` on this processor; -1 if it multiplies no bfloat16. A process must ask Linux for permission
// before it first uses AMX tiles.
int64_t attnstore_products() {
#ifdef WITH_AMX
  if (syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0) return kAmx;
#endif
#if defined(WITH_DOT)
  return kDot;
#elif defined(WITH_AVX512)
  return kFloat32;
#else
  return -1;
#endif
}

int64_t attnstore_call_bytes() { return sizeof(Call); }

// The number of bytes that `mean` needs; `all` is set to whether every document's head mean is kept.
int64_t attnstore_mean_bytes(const Call *call, int64_t *all) {
  int64_t bytes = 0;
  *all = 1;
  for (int64_t i = 0; i < call->documents; ++i) {
    const int64_t n = call->length[i], elements = mean_elements(n, call->window);
    if (keeps_mean(*call, n, elements))
      bytes += elements * (call->bfloat16 ? 2 : 4);
    else
      *all = 0;
  }
  return bytes;
}

// Returns 0 on success, 1 if memory ran out, or 2 if this build does not multiply bfloat16.
int attnstore_attend(const Call *call) try {
#ifdef WITH_AMX
  if (call->bfloat16 && call->products == kAmx) return Layer<Amx>(*call).run() ? 0 : 1;
#endif
#ifdef WITH_DOT
  if (call->bfloat16 && call->products == kDot) return Layer<Dot>(*call).run() ? 0 : 1;
#endif
#ifdef WITH_AVX512
  if (call->bfloat16) return Layer<Single<bf16>>(*call).run() ? 0 : 1;
#endif
  if (call->bfloat16) return 2;
  return Layer<Single<float>>(*call).run() ? 0 : 1;
} catch (const std::bad_alloc &) {
  return 1;
}

}  // extern "C"
