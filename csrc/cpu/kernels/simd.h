// One vector of kWidth 32-bit lanes for the instruction set FASTNST_ISA that this object is
// compiled for. A lane is a float, or ("unit") a pair of bfloat16 along the summed dimension, whose
// products vdpbf16ps adds two at a time, or of integers of 16 bits, with vpdpwssd.
//
//            lanes  registers  tile (rows x vectors)   loads per k   FMAs per k
// scalar       4    16 or 32         4 x 2                  6             8
// neon         4       32            4 x 6                  7            24
// neonbf16     4       32            4 x 6                  7            24
// avx2         8       16            4 x 3                  7            12
// avx512      16       32            8 x 3                 11            24
// avx512bf16  16       32            8 x 3                 11            24
//
// NEON multiplies by one lane of a register (multiply_add_lane): a load of four rows' factors, or
// of one row's next four, takes the place of four loads that broadcast.
//
// load(const int8_t*) makes floats of kWidth small integers.
// zero_if_less(x, a, b) is 0 where a < b, else x. max(a, b) is b where either is NaN.
// stream(p, x) stores past the caches, for p aligned to whole vectors; other threads see it after
// finish_streams().
// zero_unless_positive(x, f) is x where f > 0 or f is NaN, else 0: PyTorch's derivative of ReLU.
// positive(f) has bit i set where lane i is such.
// select_scaled(bits, x, s) is s x where its bit is set, else 0.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(FASTNST_ISA_AVX2) || defined(FASTNST_ISA_AVX512) || defined(FASTNST_ISA_AVX512BF16)
#define FASTNST_X86
#include <immintrin.h>
#elif defined(FASTNST_ISA_NEON) || defined(FASTNST_ISA_NEONBF16)
#define FASTNST_NEON
#include <arm_neon.h>
#endif

// What an inner loop consists of. Not left to gcc, which no longer inlines it in a source that has
// grown: transforms then take 1.3 times as long.
#define FASTNST_INLINE inline __attribute__((always_inline))
#define FASTNST_INLINE_LAMBDA __attribute__((always_inline))

namespace fastnst {
namespace FASTNST_ISA {
namespace {

using bf16 = uint16_t;

inline int64_t min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// The line at p will be read: bring it into the first or the second cache.
inline void prefetch(const void* p) {
    __builtin_prefetch(p, 0, 3);
}
inline void prefetch_to_second(const void* p) {
    __builtin_prefetch(p, 0, 2);
}

inline float from_bf16(bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Round to nearest, ties to even; NaN stays NaN.
inline bf16 to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    return static_cast<bf16>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

inline void finish_streams() {
#if defined(FASTNST_X86)
    _mm_sfence();
#endif
}

#if defined(FASTNST_ISA_AVX512) || defined(FASTNST_ISA_AVX512BF16)

constexpr int kRegisters = 32, kWidth = 16, kRows = 8, kVectors = 3;
using Vec = __m512;
inline Vec zero() {
    return _mm512_setzero_ps();
}
inline Vec load(const float* p) {
    return _mm512_loadu_ps(p);
}
inline Vec load(const bf16* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline Vec load(const int8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, Vec x) {
    _mm512_storeu_ps(p, x);
}
inline void stream(float* p, Vec x) {
    _mm512_stream_ps(p, x);
}
inline Vec broadcast(const float* p) {
    return _mm512_set1_ps(*p);
}
inline Vec add(Vec a, Vec b) {
    return _mm512_add_ps(a, b);
}
inline Vec subtract(Vec a, Vec b) {
    return _mm512_sub_ps(a, b);
}
inline Vec multiply(Vec a, Vec b) {
    return _mm512_mul_ps(a, b);
}
inline Vec max(Vec a, Vec b) {
    return _mm512_max_ps(a, b);
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline Vec zero_unless_positive(Vec x, Vec f) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(f, zero(), _CMP_NLE_UQ), x);
}
inline Vec zero_if_less(Vec x, Vec a, Vec b) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}
inline uint32_t positive(Vec f) {
    return _mm512_cmp_ps_mask(f, zero(), _CMP_NLE_UQ);
}
inline Vec select_scaled(uint32_t bits, Vec x, Vec s) {
    return _mm512_maskz_mul_ps(static_cast<__mmask16>(bits), x, s);
}
#if defined(FASTNST_ISA_AVX512BF16)
inline void store(bf16* p, Vec x) {
    const __m256bh rounded = _mm512_cvtneps_pbh(x);
    memcpy(p, &rounded, sizeof(rounded));
}
#else
inline void store(bf16* p, Vec x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i value = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                                               high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(value));
}
#endif

// r[i][j] <-> r[j][i]: 4x4 blocks within the 128-bit quarters, then the quarters themselves.
inline void transpose(Vec (&r)[16]) {
    Vec t[16];
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
        const Vec even_low = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const Vec odd_low = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const Vec even_high = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const Vec odd_high = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
}

// Products of pairs of 16-bit integers, which need a processor with avx512vnni, whatever else it
// has: who calls them has asked. In assembler, which needs no flag for it, and since gcc 12 lets
// sums of the intrinsic leave their registers.
#define FASTNST_MULTIPLIES_INTEGERS
// c[j] + a[2j] b[2j] + a[2j + 1] b[2j + 1], in integers of 32 bits
FASTNST_INLINE Vec multiply_add_integers(Vec a, Vec b, Vec c) {
    asm("vpdpwssd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
    return c;
}
inline Vec from_integers(Vec x) {
    return _mm512_cvtepi32_ps(_mm512_castps_si512(x));
}
// Rounded to nearest; |x| is at most 32767.
inline void store(int16_t* p, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
}
// p[2j] = round(scale a[j]), p[2j + 1] = round(scale b[j]), which are at most 32767. Added to
// 1.5 * 2^23, a number is rounded to an integer, which the lower half of its bits then is.
inline void store_zipped(int16_t* p, Vec a, Vec b, Vec scale) {
    const Vec shift = _mm512_set1_ps(0x1.8p23f);
    const __m512i low = _mm512_castps_si512(_mm512_fmadd_ps(a, scale, shift));
    const __m512i high = _mm512_castps_si512(_mm512_fmadd_ps(b, scale, shift));
    _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0x55555555, _mm512_slli_epi32(high, 16), low));
}
// Lane i is the sum of the lanes of x[i].
FASTNST_INLINE Vec sums_of_lanes(const Vec (&x)[16]) {
    Vec two[8], four[4], eight[2];  // lanes that are in one
    for (int i = 0; i < 8; ++i)
        two[i] = _mm512_add_ps(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]),
                               _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    for (int i = 0; i < 4; ++i) {
        const __m512d a = _mm512_castps_pd(two[2 * i]), b = _mm512_castps_pd(two[2 * i + 1]);
        four[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                                _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; ++i)
        eight[i] = _mm512_add_ps(_mm512_shuffle_f32x4(four[2 * i], four[2 * i + 1], 0x88),
                                 _mm512_shuffle_f32x4(four[2 * i], four[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(eight[0], eight[1], 0x88),
                         _mm512_shuffle_f32x4(eight[0], eight[1], 0xdd));
}
// The same for four vectors: lane i is that of x[i % 4].
FASTNST_INLINE Vec sums_of_lanes(const Vec (&x)[4]) {
    const __m512d a = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1])));
    const __m512d b = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3])));
    const Vec four = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                                   _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    const Vec eight = _mm512_add_ps(four, _mm512_shuffle_f32x4(four, four, 0xb1));
    return _mm512_add_ps(eight, _mm512_shuffle_f32x4(eight, eight, 0x4e));
}
inline Vec divide(Vec x, Vec y) {
    return _mm512_div_ps(x, y);
}
inline Vec square_root(Vec x) {
    return _mm512_sqrt_ps(x);
}
// Whether low <= x <= high for the first `count` numbers of x.
inline bool all_within(Vec x, float low, float high, int64_t count) {
    const uint32_t found = _mm512_cmp_ps_mask(x, _mm512_set1_ps(low), _CMP_GE_OQ) &
                           _mm512_cmp_ps_mask(x, _mm512_set1_ps(high), _CMP_LE_OQ);
    const uint32_t wanted = (1u << count) - 1;
    return (found & wanted) == wanted;
}

#if defined(FASTNST_ISA_AVX512BF16)
#define FASTNST_MULTIPLIES_PAIRS  // there is a multiply_add_pairs: a lane may be a pair of bfloat16
inline __m512bh pairs(Vec x) {
    __m512bh y;
    memcpy(&y, &x, sizeof(y));
    return y;
}
// c[j] + a[2j] b[2j] + a[2j + 1] b[2j + 1]
inline Vec multiply_add_pairs(Vec a, Vec b, Vec c) {
    return _mm512_dpbf16_ps(c, pairs(a), pairs(b));
}

// p[2j] = low[j], p[2j + 1] = high[j] for 0 <= j < 16
inline void store_zipped(float* p, const bf16* low, const bf16* high) {
    const __m512i a =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low)));
    const __m512i b =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)));
    _mm512_storeu_si512(p, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}
#endif

#elif defined(FASTNST_ISA_AVX2)

constexpr int kRegisters = 16, kWidth = 8, kRows = 4, kVectors = 3;
using Vec = __m256;
inline Vec zero() {
    return _mm256_setzero_ps();
}
inline Vec load(const float* p) {
    return _mm256_loadu_ps(p);
}
inline Vec load(const bf16* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
inline Vec load(const int8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, Vec x) {
    _mm256_storeu_ps(p, x);
}
inline void stream(float* p, Vec x) {
    _mm256_stream_ps(p, x);
}
inline Vec broadcast(const float* p) {
    return _mm256_broadcast_ss(p);
}
inline Vec add(Vec a, Vec b) {
    return _mm256_add_ps(a, b);
}
inline Vec subtract(Vec a, Vec b) {
    return _mm256_sub_ps(a, b);
}
inline Vec multiply(Vec a, Vec b) {
    return _mm256_mul_ps(a, b);
}
inline Vec max(Vec a, Vec b) {
    return _mm256_max_ps(a, b);
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline Vec zero_unless_positive(Vec x, Vec f) {
    return _mm256_and_ps(x, _mm256_cmp_ps(f, zero(), _CMP_NLE_UQ));
}
inline Vec zero_if_less(Vec x, Vec a, Vec b) {
    return _mm256_and_ps(x, _mm256_cmp_ps(a, b, _CMP_NLT_UQ));
}
inline uint32_t positive(Vec f) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(f, zero(), _CMP_NLE_UQ)));
}
inline Vec select_scaled(uint32_t bits, Vec x, Vec s) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
    return _mm256_and_ps(_mm256_mul_ps(x, s), _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane)));
}
inline void store(bf16* p, Vec x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i value =
        _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), is_nan);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(value, value), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

inline void transpose(Vec (&r)[8]) {
    Vec t[8];
    for (int i = 0; i < 8; i += 4) {
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
        const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

#elif defined(FASTNST_NEON)

constexpr int kRegisters = 32, kWidth = 4, kRows = 4, kVectors = 6;
using Vec = float32x4_t;
inline Vec masked(Vec x, uint32x4_t mask) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), mask));
}
inline Vec masked_out(Vec x, uint32x4_t mask) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), mask));
}
inline uint32x4_t lane_bits() {
    const uint32_t bits[4] = {1, 2, 4, 8};
    return vld1q_u32(bits);
}
inline Vec zero() {
    return vdupq_n_f32(0);
}
inline Vec load(const float* p) {
    return vld1q_f32(p);
}
inline Vec load(const bf16* p) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p)), 16));
}
inline Vec load(const int8_t* p) {
    int32_t four;
    memcpy(&four, p, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
inline void store(float* p, Vec x) {
    vst1q_f32(p, x);
}
inline void stream(float* p, Vec x) {  // the processor itself sees that lines are written whole
    vst1q_f32(p, x);
}
inline Vec broadcast(const float* p) {
    return vld1q_dup_f32(p);
}
inline Vec add(Vec a, Vec b) {
    return vaddq_f32(a, b);
}
inline Vec subtract(Vec a, Vec b) {
    return vsubq_f32(a, b);
}
inline Vec multiply(Vec a, Vec b) {
    return vmulq_f32(a, b);
}
inline Vec max(Vec a, Vec b) {  // vmaxq_f32 is NaN where a is
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
    return vfmaq_f32(c, a, b);
}
inline Vec zero_unless_positive(Vec x, Vec f) {
    return masked_out(x, vclezq_f32(f));
}
inline Vec zero_if_less(Vec x, Vec a, Vec b) {
    return masked_out(x, vcltq_f32(a, b));
}
inline uint32_t positive(Vec f) {
    return vaddvq_u32(vbicq_u32(lane_bits(), vclezq_f32(f)));
}
inline Vec select_scaled(uint32_t bits, Vec x, Vec s) {
    return masked(vmulq_f32(x, s), vtstq_u32(vdupq_n_u32(bits), lane_bits()));
}
#if defined(FASTNST_ISA_NEONBF16)
inline void store(bf16* p, Vec x) {
    const bfloat16x4_t rounded = vcvt_bf16_f32(x);
    memcpy(p, &rounded, sizeof(rounded));
}
#else
inline void store(bf16* p, Vec x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t nan = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, nan), 16));
}
#endif

inline void transpose(Vec (&r)[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#define FASTNST_MULTIPLIES_LANES  // there is a multiply_add_lane
// c + a[kLane] b
template <int kLane>
inline Vec multiply_add_lane(Vec a, Vec b, Vec c) {
#if defined(__clang__)
    return vfmaq_laneq_f32(c, b, a, kLane);
#else
    // gcc moves products that it understands, until the sums of a tile need more registers than
    // there are and 12 of 41 vectors that a convolution's loop loads are sums from the stack
    asm("fmla %0.4s, %1.4s, %2.s[%3]" : "+w"(c) : "w"(b), "w"(a), "i"(kLane));
    return c;
#endif
}

#if defined(FASTNST_ISA_NEONBF16)
#define FASTNST_MULTIPLIES_PAIRS  // there is a multiply_add_pairs: a lane may be a pair of bfloat16
inline bfloat16x8_t pairs(Vec x) {
    return vreinterpretq_bf16_f32(x);
}
// c[j] + a[2j] b[2j] + a[2j + 1] b[2j + 1]
inline Vec multiply_add_pairs(Vec a, Vec b, Vec c) {
    return vbfdotq_f32(c, pairs(a), pairs(b));
}
// the same with the pair of a that is in one lane
template <int kLane>
inline Vec multiply_add_pairs_lane(Vec a, Vec b, Vec c) {
    return vbfdotq_laneq_f32(c, pairs(b), pairs(a), kLane);
}

// p[2j] = low[j], p[2j + 1] = high[j] for 0 <= j < 4
inline void store_zipped(float* p, const bf16* low, const bf16* high) {
    const uint16x4_t a = vld1_u16(low), b = vld1_u16(high);
    vst1q_f32(p, vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(a, b), vzip2_u16(a, b))));
}
#endif

#else  // portable: GNU vectors of four floats, which every target lowers to what it has

constexpr int kRegisters = 16, kWidth = 4, kRows = 4, kVectors = 2;
typedef float Vec __attribute__((vector_size(16)));
inline Vec zero() {
    return Vec{0, 0, 0, 0};
}
inline Vec load(const float* p) {
    Vec x;
    memcpy(&x, p, sizeof(x));
    return x;
}
inline Vec load(const bf16* p) {
    return Vec{from_bf16(p[0]), from_bf16(p[1]), from_bf16(p[2]), from_bf16(p[3])};
}
inline Vec load(const int8_t* p) {
    return Vec{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
               static_cast<float>(p[3])};
}
inline void store(float* p, Vec x) {
    memcpy(p, &x, sizeof(x));
}
inline void stream(float* p, Vec x) {
    store(p, x);
}
inline Vec broadcast(const float* p) {
    return Vec{*p, *p, *p, *p};
}
inline Vec add(Vec a, Vec b) {
    return a + b;
}
inline Vec subtract(Vec a, Vec b) {
    return a - b;
}
inline Vec multiply(Vec a, Vec b) {
    return a * b;
}
inline Vec max(Vec a, Vec b) {
    for (int i = 0; i < kWidth; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
inline Vec multiply_add(Vec a, Vec b, Vec c) {
    return a * b + c;
}
inline Vec zero_unless_positive(Vec x, Vec f) {
    for (int i = 0; i < kWidth; ++i) x[i] = f[i] <= 0 ? 0.0f : x[i];
    return x;
}
inline Vec zero_if_less(Vec x, Vec a, Vec b) {
    for (int i = 0; i < kWidth; ++i) x[i] = a[i] < b[i] ? 0.0f : x[i];
    return x;
}
inline uint32_t positive(Vec f) {
    uint32_t bits = 0;
    for (int i = 0; i < kWidth; ++i) bits |= (f[i] <= 0 ? 0u : 1u) << i;
    return bits;
}
inline Vec select_scaled(uint32_t bits, Vec x, Vec s) {
    for (int i = 0; i < kWidth; ++i) x[i] = bits >> i & 1 ? x[i] * s[i] : 0.0f;
    return x;
}
inline void store(bf16* p, Vec x) {
    for (int i = 0; i < kWidth; ++i) p[i] = to_bf16(x[i]);
}

inline void transpose(Vec (&r)[4]) {
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < i; ++j) {
            const float x = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = x;
        }
    }
}

#endif

template <class T>
inline void store_or_stream(bool streamed, T* p, Vec x) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (streamed) return stream(p, x);
    }
    store(p, x);  // a vector of bfloat16 is half a line: not worth streaming
}

}  // namespace
}  // namespace FASTNST_ISA
}  // namespace fastnst
