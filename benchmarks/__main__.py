"""`make bench`."""

from benchmarks.measure import main

if __name__ == "__main__":
    main()
