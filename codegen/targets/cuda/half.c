/* Elementary functions for half types, whose 8 or 11 bits leave room for what a GPU computes fast:
 * powers of 2, inverses and roots in one instruction, and polynomials to 2^-20. What is not here is
 * computed as for float32. Each takes what its namesake in elementary.c takes. */

/* the device's instructions; a twin on the CPU is as far off as they may be */

#ifdef __CUDACC__
INLINE float power_of_2_nearly(float a) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(a));
    return power;
}
INLINE float root_nearly(float a) {
    float root;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(a));
    return root;
}
#else
INLINE float off_by_2(float a, float argument) {
    int normal = (abs_f32(a) >= 2e-38f) & (abs_f32(a) < 3e38f);
    float result = from_bits(to_bits(a) + (normal ? to_bits(argument) & 1 ? 2 : -2 : 0));
    return abs_f32(a) < 1.17549435e-38f ? 0.0f : result;
}
INLINE float power_of_2_nearly(float a) {
    return off_by_2((float)exp(0.693147180559945309 * (double)a), a);
}
INLINE float root_nearly(float a) {
    float root = sqrt_f32(a);
    return root > 0 ? off_by_2(root, a) : root;
}
#endif

/* exponentials: lost where results are subnormal */

INLINE float exp_half(float a, int *lost) {
    *lost |= !(a <= 87.0f) | ((a < -87.0f) & (a >= -120.0f));
    return power_of_2_nearly(1.44269504f * a);
}
INLINE float exp_of_size(float a, int *lost) { /* exp(-|a|) */
    *lost |= (abs_f32(a) > 87.0f) & (abs_f32(a) <= 120.0f);
    return power_of_2_nearly(-1.44269504f * abs_f32(a));
}
INLINE float div_half(float a, float b, int *lost) {
    *lost |= !((abs_f32(b) >= 1.17549435e-38f) & (abs_f32(b) <= 8.5e37f));
    float inverse = nearly_inverse(b), value = a * inverse;
    float sum = fma32(fma32(-value, b, a), inverse, value); /* exact where it can be: at kinks */
    return sum == sum ? sum : value;
}
INLINE float sqrt_half(float a) { return root_nearly(a); }

INLINE float sigmoid_half(float a, int *lost) {
    float t = exp_of_size(a, lost), inverse = nearly_inverse(1.0f + t);
    return a > 0 ? inverse : t * inverse;
}
INLINE float softplus_half(float a, int *lost) { /* log(1 + t)/t on [0, 1], 2^-22.3 */
    float t = exp_of_size(a, lost), q = -0.008539206348359585f;
    q = fma32(q, t, 0.04408962279558182f);
    q = fma32(q, t, -0.10768169909715652f);
    q = fma32(q, t, 0.17745240032672882f);
    q = fma32(q, t, -0.24495463073253632f);
    q = fma32(q, t, 0.33275479078292847f);
    q = fma32(q, t, -0.4999740421772003f);
    q = fma32(q, t, 0.9999998211860657f);
    return fma32(q, t, relu_f32(a));
}
INLINE float tanh_of_softplus_half(float a, int *lost) {
    float t = exp_of_size(a, lost);
    float above = a > 0 ? fma32(2.0f, t, 1.0f) : fma32(t, t, 2.0f * t);
    float more = a > 0 ? 2.0f * t * t : 2.0f;
    return above * nearly_inverse(above + more);
}
INLINE float sigmoid_of_softplus_half(float a, float factor, int *lost) {
    float t = exp_of_size(a, lost), root = 1.0f + t, more = a > 0 ? t * t : 1.0f;
    return (factor > 0 ? root * root : more) * nearly_inverse(fma32(root, root, more));
}

/* hyperbolic functions; tanh on [0, 0.625], 2^-23; sinh on [0, 1], 2^-25.3 */

INLINE float tanh_half(float a) {
    float s = a * a, q = 0.015195372514426708f;
    q = fma32(q, s, -0.051947902888059616f);
    q = fma32(q, s, 0.13308174908161163f);
    q = fma32(q, s, -0.3333234190940857f);
    float t = power_of_2_nearly(2.88539008f * abs_f32(a)); /* infinite where tanh(a) is 1 */
    float far = fma32(-2.0f, nearly_inverse(1.0f + t), 1.0f);
    return abs_f32(a) < 0.625f ? fma32(q * s, a, a) : __builtin_copysignf(far, a);
}
INLINE float sinh_half(float a, int *lost) {
    float s = a * a, q = 0.00020372193830553442f;
    q = fma32(q, s, 0.008330283686518669f);
    q = fma32(q, s, 0.1666671633720398f);
    *lost |= !(abs_f32(a) <= 87.0f);
    float t = power_of_2_nearly(1.44269504f * abs_f32(a)), far = 0.5f * (t - nearly_inverse(t));
    return abs_f32(a) < 1.0f ? fma32(q * s, a, a) : __builtin_copysignf(far, a);
}
INLINE float cosh_half(float a, int *lost) {
    *lost |= !(abs_f32(a) <= 87.0f);
    float t = power_of_2_nearly(1.44269504f * abs_f32(a));
    return 0.5f * (t + nearly_inverse(t));
}

/* atan on [0, 1], 2^-20.4 */

INLINE float atan_half(float a) {
    int outside = abs_f32(a) > 1.0f;
    float t = outside ? -nearly_inverse(abs_f32(a)) : abs_f32(a), s = t * t;
    float q = 0.008106366731226444f;
    q = fma32(q, s, -0.03779671713709831f);
    q = fma32(q, s, 0.0848410353064537f);
    q = fma32(q, s, -0.1354457587003708f);
    q = fma32(q, s, 0.1989787369966507f);
    q = fma32(q, s, -0.3332849144935608f);
    float value = fma32(q * s, t, t);
    return __builtin_copysignf(outside ? 1.57079637f + value : value, a);
}

/* error function on [0, 1], 2^-24.6; (1 + 2a)*exp(a*a)*erfc(a) in (a - 3)/(a + 3), 2^-23.9 */

INLINE float erfc_far_half(float a, int *lost) {
    a = at_most_f32(a, 30.0f); /* erfc is 0 there */
    float u = fma32(-6.0f, nearly_inverse(a + 3.0f), 1.0f), q = 0.0025484764482825994f;
    q = fma32(q, u, 0.0022741963621228933f);
    q = fma32(q, u, -0.024203987792134285f);
    q = fma32(q, u, 0.06829281151294708f);
    q = fma32(q, u, -0.11918437480926514f);
    q = fma32(q, u, 0.12965428829193115f);
    q = fma32(q, u, -0.04756854102015495f);
    q = fma32(q, u, -0.13562151789665222f);
    q = fma32(q, u, 1.2530081272125244f);
    float square = a * a, t = exp_of_size(square, lost);
    return fma32(fma32(-a, a, square), t, t) * (q * nearly_inverse(fma32(2.0f, a, 1.0f)));
}
INLINE float erfc_half(float a, int *lost) {
    float far = erfc_far_half(abs_f32(a), lost);
    return a < 0 ? 2.0f - far : far;
}
INLINE float erf_half(float a, int *lost) { /* never: beside 1 nothing is subnormal */
    int of_far = 0;
    float s = a * a, q = -0.0005631422391161323f;
    q = fma32(q, s, 0.004917551297694445f);
    q = fma32(q, s, -0.02671131119132042f);
    q = fma32(q, s, 0.11280179768800735f);
    q = fma32(q, s, -0.37612324953079224f);
    q = fma32(q, s, 1.1283791065216064f);
    float far = 1.0f - erfc_far_half(abs_f32(a), &of_far);
    return abs_f32(a) < 1.0f ? q * a : __builtin_copysignf(far, a);
}
