/* Finds results in float that have overflowed on the way, and computes them again in double. */

INLINE int is_finite_float(float v)
{
    return (bits_of_float(v) & 0x7f800000u) != 0x7f800000u;
}

/* Of both, what was finite in float stays, so that no element depends on its neighbours. */
static void replace_float(const double *RESTRICT wide, Py_ssize_t n, float *RESTRICT v)
{
    for (Py_ssize_t i = 0; i < n; i++)
        v[i] = is_finite_float(v[i]) ? v[i] : (float)wide[i];
}

static void replaced_double(const float *RESTRICT v, Py_ssize_t n, double *RESTRICT wide)
{
    for (Py_ssize_t i = 0; i < n; i++)
        wide[i] = is_finite_float(v[i]) ? (double)v[i] : wide[i];
}
