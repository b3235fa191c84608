timeout 200 python -m benchmarks --device cuda --only cuda --json $OUT/cuda.json > $OUT/table.txt 2>&1
cut -c1-170 $OUT/table.txt | tail -44
timeout 240 python -m pytest -q -p no:cacheprovider tests/kernels/triton tests/kernels/test_cuda.py -o addopts="" 2>&1 | tail -12 | cut -c1-300
