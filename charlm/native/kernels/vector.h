// Vectors of the processor's width, conversions to and from storage, exp, sigmoid, tanh.
//
// Written in GCC's and Clang's vector extensions; intrinsics only for operations that these lack
// (products and conversions of bfloat16 and of 8 bits, fast reciprocals).
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
#elif defined(__SSE__)
constexpr int WIDTH = 4;
constexpr int REGISTERS = 16;
#else
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif
constexpr int WIDTH = 4;     // NEON
constexpr int REGISTERS = 32;
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE static inline __attribute__((always_inline))

// Loops over the rows and columns of a tile must be unrolled, or the tile does not fit in registers.
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE vec splat(float x) { return x - vec{}; }  // x + 0 would be an addition: it turns -0 into 0

struct bfloat16 { uint16_t bits; };
struct quantized { uint8_t bits; };

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

// Fetch `count` elements into the cache; they are read soon.
template <class S> INLINE void prefetch(const S *p, int count = 1) {
    for (int i = 0; i < count; i += 64 / int(sizeof(S))) __builtin_prefetch(p + i);
}

INLINE void narrow(float x, float *to) { *to = x; }
INLINE void narrow(float x, bfloat16 *to) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t bits; memcpy(&bits, &x, 4);
    to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// x in every element.
INLINE ivec repeated(int32_t x) {
    ivec v = x - ivec{};
#if defined(__AVX512BF16__) && defined(__clang__) && __clang_major__ < 18
    asm("" : "+v"(v));  // without it Clang recurses without end (LLVM's issue 68117)
#endif
    return v;
}
INLINE ivec load(const int32_t *p) { ivec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(int32_t *p, ivec v) { memcpy(p, &v, sizeof v); }

// bfloat16: `widened` extends them with zeros; `add_products` adds to every element of sums the products of
// the two values in that element of x with the two of w.
#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
INLINE ivec widened(const bfloat16 *p) {
    return (ivec)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INLINE void store(bfloat16 *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
// Non-temporal store, for values that are read much later; p 32-byte aligned (64 for float, and for
// two vectors).
INLINE void stream_store(bfloat16 *p, vec v) {
    _mm256_stream_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
INLINE void stream_store(float *p, vec v) { _mm512_stream_ps(p, (__m512)v); }
INLINE void stream_store(bfloat16 *p, vec first, vec second) {
    _mm512_stream_si512((__m512i *)p, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}
INLINE vec add_products(vec sums, ivec x, ivec w) {
    return (vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)w);
}
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define HAS_BFLOAT16 1
INLINE ivec widened(const bfloat16 *p) { return (ivec)vmovl_u16(vld1_u16(&p->bits)); }
INLINE void store(bfloat16 *p, vec v) {
    vst1_u16(&p->bits, vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)v)));
}
INLINE vec add_products(vec sums, ivec x, ivec w) {
    return (vec)vbfdotq_f32((float32x4_t)sums, (bfloat16x8_t)x, (bfloat16x8_t)w);
}
#else
#define HAS_BFLOAT16 0
#endif
#if HAS_BFLOAT16
INLINE vec load(const bfloat16 *p) { return (vec)(widened(p) << 16); }
#endif

// 8 bits: `store` keeps 127 times values of -1 to 1, plus ADDED; `add_products` likewise of four values.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define HAS_QUANTIZED 1
constexpr float ADDED = 128.0f;  // the processor multiplies unsigned by signed bytes
INLINE void store(quantized *p, vec v) {
    __m512i whole = _mm512_cvtps_epi32((__m512)(v * 127.0f + ADDED));
    _mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8(whole));
}
INLINE vec load(const quantized *p) {
    __m512i whole = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return ((vec)_mm512_cvtepi32_ps(whole) - ADDED) / 127.0f;
}
INLINE ivec add_products(ivec sums, ivec x, ivec w) {
    return (ivec)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)w);
}
#elif defined(__ARM_FEATURE_DOTPROD)
#define HAS_QUANTIZED 1
constexpr float ADDED = 0.0f;  // signed by signed
INLINE void store(quantized *p, vec v) {
    int16x4_t half = vqmovn_s32(vcvtnq_s32_f32((float32x4_t)(v * 127.0f)));
    int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
    memcpy(p, &bytes, WIDTH);
}
INLINE vec load(const quantized *p) {
    vec v = {};
    for (int i = 0; i < WIDTH; i++) v[i] = float(int8_t(p[i].bits));
    return v / 127.0f;
}
INLINE ivec add_products(ivec sums, ivec x, ivec w) {
    return (ivec)vdotq_s32((int32x4_t)sums, (int8x16_t)x, (int8x16_t)w);
}
#else
#define HAS_QUANTIZED 0
#endif

// The first `count` of a vector's elements, the rest zeros.
INLINE vec load_some(const float *p, int64_t count) {
    if (count >= WIDTH) return load(p);
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
#else
    vec v = {};
    for (int64_t i = 0; i < count; i++) v[i] = p[i];
    return v;
#endif
}
INLINE void store_some(float *p, vec v, int64_t count) {
    if (count >= WIDTH) return store(p, v);
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
#else
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
#endif
}

// Make streamed stores visible to the other threads.
INLINE void finish_stores() {
#if defined(__AVX512BF16__)
    _mm_sfence();
#endif
}
template <class S> INLINE void stream_store(S *p, vec v) { store(p, v); }
template <class S> INLINE void stream_store(S *p, vec first, vec second) {
    store(p, first);
    store(p + WIDTH, second);
}

// a b + c with one rounding, where the processor can. The compiler is not allowed to fuse by itself: it
// would do so differently in tiles of different sizes, and results would depend on the tile.
INLINE vec fused(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
INLINE vec fused(vec a, vec b, float c) { return fused(a, b, splat(c)); }

INLINE vec greater(vec a, vec b) { return a > b ? a : b; }

INLINE vec square_root(vec x) {
#if defined(__AVX512F__)
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
    return (vec)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < WIDTH; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

INLINE vec load(const uint8_t *p) {
#if defined(__AVX512F__)
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
#else
    vec v = {};
    for (int i = 0; i < WIDTH; i++) v[i] = float(p[i]);
    return v;
#endif
}

// exp, sigmoid and tanh to the precision of S. NaN stays NaN.
template <class S> struct Functions {
    // 2^n * 2^f with n the nearest integer, and the Taylor polynomial of e^(f ln 2),
    // |f ln 2| < 0.347, of degree 6: relative error below 2e-7. Beyond +-87 the bound's value.
    INLINE_MEMBER static vec exponential(vec x) {
        x = x < -87.0f ? splat(-87.0f) : x;
        x = x > 87.0f ? splat(87.0f) : x;
        const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
        vec t = fused(x, splat(1.44269504f), magic);
        vec n = t - magic;
        vec r = fused(n, splat(-1.42860677e-6f), fused(n, splat(-0.693145752f), x));
        vec p = splat(1.0f / 720);
        p = fused(p, r, 1.0f / 120);
        p = fused(p, r, 1.0f / 24);
        p = fused(p, r, 1.0f / 6);
        p = fused(p, r, 0.5f);
        p = fused(p, r, 1.0f);
        p = fused(p, r, 1.0f);
        ivec bits; memcpy(&bits, &t, sizeof t);
        ivec whole; memcpy(&whole, &p, sizeof p);
        whole += bits << 23;
        memcpy(&p, &whole, sizeof p);
        return p;
    }
    INLINE_MEMBER static vec reciprocal(vec x) {
#if defined(__AVX512F__)
        vec y = (vec)_mm512_rcp14_ps((__m512)x);
        return y * (2.0f - x * y);  // one step of Newton: 2^-27
#else
        return 1.0f / x;
#endif
    }
};

#if defined(__AVX512BF16__)
// Degree 4 and no step of Newton: relative error below 1e-4, a fortieth of bfloat16's last place.
template <> struct Functions<bfloat16> {
    INLINE_MEMBER static vec exponential(vec x) {
        __m512 t = (__m512)(x * 1.44269504f);
        __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        vec f = (vec)t - (vec)n;
        vec p = splat(0.00961813f);
        p = fused(p, f, 0.0555041f);
        p = fused(p, f, 0.240227f);
        p = fused(p, f, 0.693147f);
        p = fused(p, f, 1.0f);
        return (vec)_mm512_scalef_ps((__m512)p, n);
    }
    INLINE_MEMBER static vec reciprocal(vec x) { return (vec)_mm512_rcp14_ps((__m512)x); }
};
template <> struct Functions<quantized> : Functions<bfloat16> {};
#endif

template <class S> INLINE vec sigmoid(vec x) {
    return Functions<S>::reciprocal(1.0f + Functions<S>::exponential(-x));
}

template <class S> INLINE vec hyperbolic_tangent(vec x) {
    return 1.0f - 2.0f * Functions<S>::reciprocal(1.0f + Functions<S>::exponential(x + x));
}
