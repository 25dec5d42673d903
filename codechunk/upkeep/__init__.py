"""What is indexed and what is not needed any more: repositories, garbage, files of vectors."""
