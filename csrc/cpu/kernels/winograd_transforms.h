// The transforms of Winograd's F(m x m, 3x3) (Lavin & Gray, arXiv:1509.09308) for m = 4 and m = 6,
// in one dimension; applied to rows and columns they are those of two.
//
// A tile of m x m outputs depends on a patch d of (m + 2) x (m + 2) inputs:
//
//     Y = A^T [ sum over ci of (G g G^T) * (B^T d B) ] A        * elementwise
//
// m = 4 takes 2.25 products an output, m = 6 takes 1.78, where the direct sum takes 9. The row of a
// finite point p is (1, p, p^2, ...) in A and (1, p, p^2) / prod(p - q) in G, and in B^T the
// polynomial prod(x - q) over the other points q.
#pragma once

#include "simd.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

template <int kTile>
struct Transform;

// Points 0, +-sqrt(2), +-1/sqrt(2) and infinity: with 0, +-1, +-2 the entries of the matrices reach
// 8, with these 2.9, which halves the error. With a = sqrt(2), b = 1 / sqrt(2):
//
// clang-format off
//     B^T =  1    0  -5/2   0    1   0      G =   1     0    0             A^T = 1  1   1   1    1   0
//            0   -b  -1/2   a    1   0           1/6 [ 1  a   2  ]               0  a  -a   b   -b   0
//            0    b  -1/2  -a    1   0           1/6 [ 1 -a   2  ]               0  2   2  1/2  1/2  0
//            0   -a   -2    b    1   0          -2/3 [ 1  b  1/2 ]               0 2a -2a  b/2 -b/2  1
//            0    a   -2   -b    1   0          -2/3 [ 1 -b  1/2 ]
//            0    1    0  -5/2   0   1            0     0    1
// clang-format on
template <>
struct Transform<4> {
    static constexpr double kA = 1.41421356237309504880, kB = 0.70710678118654752440;
    static constexpr double kFilter[6][3] = {{1, 0, 0},
                                             {1. / 6, kA / 6, 2. / 6},
                                             {1. / 6, -kA / 6, 2. / 6},
                                             {-2. / 3, -2. / 3 * kB, -1. / 3},
                                             {-2. / 3, 2. / 3 * kB, -1. / 3},
                                             {0, 0, 1}};

    // B^T x
    static FASTNST_INLINE void input(const Vec (&x)[6], Vec (&y)[6]) {
        const float constants[] = {-2.5f,
                                   -0.5f,
                                   -2.0f,
                                   static_cast<float>(kA),
                                   static_cast<float>(kB),
                                   static_cast<float>(-kA),
                                   static_cast<float>(-kB)};
        const Vec m52 = broadcast(constants), m12 = broadcast(constants + 1),
                  m2 = broadcast(constants + 2), a = broadcast(constants + 3),
                  b = broadcast(constants + 4), ma = broadcast(constants + 5),
                  mb = broadcast(constants + 6);
        const Vec even_a = multiply_add(m12, x[2], x[4]);
        const Vec odd_a = multiply_add(a, x[3], multiply(mb, x[1]));
        const Vec even_b = multiply_add(m2, x[2], x[4]);
        const Vec odd_b = multiply_add(b, x[3], multiply(ma, x[1]));
        y[0] = multiply_add(m52, x[2], add(x[0], x[4]));
        y[1] = add(even_a, odd_a);
        y[2] = subtract(even_a, odd_a);
        y[3] = add(even_b, odd_b);
        y[4] = subtract(even_b, odd_b);
        y[5] = multiply_add(m52, x[3], add(x[1], x[5]));
    }

    // A^T x
    static FASTNST_INLINE void output(const Vec (&x)[6], Vec (&y)[4]) {
        const float constants[] = {2.0f,
                                   0.5f,
                                   static_cast<float>(kA),
                                   static_cast<float>(kB),
                                   static_cast<float>(2 * kA),
                                   static_cast<float>(kB / 2)};
        const Vec c2 = broadcast(constants), c12 = broadcast(constants + 1),
                  a = broadcast(constants + 2), b = broadcast(constants + 3),
                  a3 = broadcast(constants + 4), b3 = broadcast(constants + 5);
        const Vec even_a = add(x[1], x[2]), odd_a = subtract(x[1], x[2]);
        const Vec even_b = add(x[3], x[4]), odd_b = subtract(x[3], x[4]);
        y[0] = add(x[0], add(even_a, even_b));
        y[1] = multiply_add(a, odd_a, multiply(b, odd_b));
        y[2] = multiply_add(c2, even_a, multiply(c12, even_b));
        y[3] = multiply_add(a3, odd_a, multiply_add(b3, odd_b, x[5]));
    }
};

// Points 0, +-1, +-2, +-1/2 and infinity. Of 969 triples of pairs between 0.4 and 2 this one has
// the smallest error, about three times that of m = 4 (VGG-19's layers: 2e-6 of the result against
// 5e-7), and its entries are exact in binary.
//
// clang-format off
//     B^T = 1   0  -21/4   0    21/4    0   -1  0    G =   1     0   0
//           0   1    1  -17/4 -17/4     1    1  0          -2/9 [ 1  1   1  ]
//           0  -1    1   17/4 -17/4    -1    1  0          -2/9 [ 1 -1   1  ]
//           0  1/2  1/4  -5/2  -5/4     2    1  0          1/90 [ 1  2   4  ]
//           0 -1/2  1/4   5/2  -5/4    -2    1  0          1/90 [ 1 -2   4  ]
//           0   2    4   -5/2   -5     1/2   1  0         32/45 [ 1 1/2 1/4 ]
//           0  -2    4    5/2   -5    -1/2   1  0         32/45 [ 1 -1/2 1/4 ]
//           0  -1    0   21/4    0   -21/4   0  1            0     0   1
//
//     A^T: columns (1, p, ..., p^5) for p = 0, 1, -1, 2, -2, 1/2, -1/2, and (0, ..., 0, 1)
// clang-format on
template <>
struct Transform<6> {
    static constexpr double kFilter[8][3] = {{1, 0, 0},
                                             {-2. / 9, -2. / 9, -2. / 9},
                                             {-2. / 9, 2. / 9, -2. / 9},
                                             {1. / 90, 2. / 90, 4. / 90},
                                             {1. / 90, -2. / 90, 4. / 90},
                                             {32. / 45, 16. / 45, 8. / 45},
                                             {32. / 45, -16. / 45, 8. / 45},
                                             {0, 0, 1}};

    // B^T x
    static FASTNST_INLINE void input(const Vec (&x)[8], Vec (&y)[8]) {
        const float constants[] = {5.25f, -4.25f, 0.25f, -1.25f, 0.5f, -2.5f, 2.0f, 4.0f, -5.0f};
        const Vec c214 = broadcast(constants), m174 = broadcast(constants + 1),
                  c14 = broadcast(constants + 2), m54 = broadcast(constants + 3),
                  c12 = broadcast(constants + 4), m52 = broadcast(constants + 5),
                  c2 = broadcast(constants + 6), c4 = broadcast(constants + 7),
                  m5 = broadcast(constants + 8);
        const Vec even_1 = multiply_add(m174, x[4], add(x[2], x[6]));
        const Vec odd_1 = multiply_add(m174, x[3], add(x[1], x[5]));
        const Vec even_2 = multiply_add(c14, x[2], multiply_add(m54, x[4], x[6]));
        const Vec odd_2 = multiply_add(c12, x[1], multiply_add(m52, x[3], multiply(c2, x[5])));
        const Vec even_h = multiply_add(c4, x[2], multiply_add(m5, x[4], x[6]));
        const Vec odd_h = multiply_add(c2, x[1], multiply_add(m52, x[3], multiply(c12, x[5])));
        y[0] = multiply_add(c214, subtract(x[4], x[2]), subtract(x[0], x[6]));
        y[1] = add(even_1, odd_1);
        y[2] = subtract(even_1, odd_1);
        y[3] = add(even_2, odd_2);
        y[4] = subtract(even_2, odd_2);
        y[5] = add(even_h, odd_h);
        y[6] = subtract(even_h, odd_h);
        y[7] = multiply_add(c214, subtract(x[3], x[5]), subtract(x[7], x[1]));
    }

    // A^T x
    static FASTNST_INLINE void output(const Vec (&x)[8], Vec (&y)[6]) {
        const float constants[] = {2.0f, 4.0f,  8.0f,   16.0f,   32.0f,
                                   0.5f, 0.25f, 0.125f, 0.0625f, 0.03125f};
        Vec c[5], inverse[5];  // 2^i, 2^-i
        for (int i = 0; i < 5; ++i) {
            c[i] = broadcast(constants + i);
            inverse[i] = broadcast(constants + 5 + i);
        }
        const Vec even_1 = add(x[1], x[2]), odd_1 = subtract(x[1], x[2]);
        const Vec even_2 = add(x[3], x[4]), odd_2 = subtract(x[3], x[4]);
        const Vec even_h = add(x[5], x[6]), odd_h = subtract(x[5], x[6]);
        y[0] = add(add(x[0], even_1), add(even_2, even_h));
        y[1] = multiply_add(c[0], odd_2, multiply_add(inverse[0], odd_h, odd_1));
        y[2] = multiply_add(c[1], even_2, multiply_add(inverse[1], even_h, even_1));
        y[3] = multiply_add(c[2], odd_2, multiply_add(inverse[2], odd_h, odd_1));
        y[4] = multiply_add(c[3], even_2, multiply_add(inverse[3], even_h, even_1));
        y[5] = multiply_add(c[4], odd_2, multiply_add(inverse[4], odd_h, add(odd_1, x[7])));
    }
};

}  // namespace
}  // namespace FASTNST_ISA
}  // namespace fastnst
