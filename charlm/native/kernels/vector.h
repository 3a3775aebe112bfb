// Vectors of the processor's width, conversions to and from storage, exp, sigmoid, tanh.
//
// GCC's and Clang's vector extensions carry all of it; intrinsics only where they do what the
// language cannot say (bfloat16 products and conversions, fast reciprocals).
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int WIDTH = 16;    // floats in a vector
constexpr int REGISTERS = 32;
#elif defined(__AVX__)
#include <immintrin.h>
constexpr int WIDTH = 8;
constexpr int REGISTERS = 16;
#else
constexpr int WIDTH = 4;     // SSE, NEON
constexpr int REGISTERS = 32;
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static inline __attribute__((always_inline))

INLINE vec splat(float x) { return vec{} + x; }

struct bfloat16 { uint16_t bits; };
struct quantized { uint8_t bits; };

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

INLINE float widen(float x) { return x; }
INLINE float widen(bfloat16 x) {
    uint32_t bits = uint32_t(x.bits) << 16; float v; memcpy(&v, &bits, 4); return v;
}
INLINE void narrow(float x, float *to) { *to = x; }
INLINE void narrow(float x, bfloat16 *to) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t bits; memcpy(&bits, &x, 4);
    to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
INLINE vec load(const bfloat16 *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return (vec)_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE void store(bfloat16 *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
#else
#define HAS_BFLOAT16 0
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HAS_QUANTIZED 1
INLINE void store(quantized *p, vec v) {  // of -1 to 1
    __m512i whole = _mm512_cvtps_epi32((__m512)(v * 127.0f + 128.0f));
    _mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8(whole));
}
INLINE vec load(const quantized *p) {
    __m512i whole = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return ((vec)_mm512_cvtepi32_ps(whole) - 128.0f) / 127.0f;
}
#else
#define HAS_QUANTIZED 0
#endif

INLINE vec reciprocal(vec x) {
#if defined(__AVX512F__)
    vec y = (vec)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);  // one step of Newton: 2^-27
#else
    return 1.0f / x;
#endif
}

INLINE vec lesser(vec a, vec b) { return a < b ? a : b; }
INLINE vec greater(vec a, vec b) { return a > b ? a : b; }

// e^x for x in [-87, 87]; beyond, the bound's value. Relative error below 2e-7: 2^n * 2^f with n
// the nearest integer, and the Taylor polynomial of e^(f ln 2), |f ln 2| < 0.347, of degree 6.
INLINE vec exponential(vec x) {
    x = lesser(greater(x, splat(-87.0f)), splat(87.0f));
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    vec t = x * 1.44269504f + magic;
    vec n = t - magic;
    vec r = x - n * 0.693145752f - n * 1.42860677e-6f;
    vec p = splat(1.0f / 720);
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec bits; memcpy(&bits, &t, sizeof t);
    ivec whole; memcpy(&whole, &p, sizeof p);
    whole += bits << 23;
    memcpy(&p, &whole, sizeof p);
    return p;
}

INLINE vec sigmoid(vec x) { return reciprocal(1.0f + exponential(-x)); }

INLINE vec hyperbolic_tangent(vec x) {  // absolute error below 2e-7
    return 1.0f - 2.0f * reciprocal(1.0f + exponential(x + x));
}
