"""`python -m peekaping_producer`."""

from peekaping_producer.cli import main

if __name__ == "__main__":
    main()
